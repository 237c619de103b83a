package answer

var Wait = (*Demo).wait
