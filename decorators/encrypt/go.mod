module github.com/chatstore/chatstore/decorators/encrypt

go 1.26.0

require github.com/chatstore/chatstore v0.0.0

require github.com/tink-crypto/tink-go/v2 v2.9.0 // indirect

replace github.com/chatstore/chatstore => ../..
