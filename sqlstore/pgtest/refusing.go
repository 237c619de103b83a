package pgtest

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// Refusing returns the address of a server that asks for the password in clear text and refuses it. The refusal quotes the password, so
// that a test can look where it appears.
func Refusing(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				buf := make([]byte, 4096)
				if n, _ := c.Read(buf); n == 0 { // the startup message
					return
				}
				_, _ = io.WriteString(c, "R\x00\x00\x00\x08\x00\x00\x00\x03") // AuthenticationCleartextPassword
				n, _ := c.Read(buf)
				said := "SFATAL\x00VFATAL\x00C28P01\x00Mpassword \"" + strings.Trim(string(buf[min(n, 5):n]), "\x00") + "\" is wrong\x00\x00"
				_, _ = io.WriteString(c, "E"+string([]byte{0, 0, 0, byte(len(said) + 4)})+said)
			}()
		}
	}()
	return l.Addr().String()
}
