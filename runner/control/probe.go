package control

// Exit codes of `berth-init probe DIR`, which tries out a file system for the files of jobs. 0 is that all went well.
const (
	ProbeRename = 11 + iota // a directory of a lower layer could not be renamed
	ProbeRemove             // a file of a lower layer could not be removed
	ProbeWrite              // a directory could not be made again where one was, or not be written to
)
