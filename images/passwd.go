package images

import (
	"fmt"
	"strings"
)

// overflow is the uid and gid of nobody, and of whoever has no mapping.
const overflow = 65534

// Passwd renders /etc/passwd and /etc/group for a job that runs as uid:gid: root, nobody and that user, so that
// programs which ask who they are get an answer. name and home are the user's own; characters that would break the
// format are replaced. The shell is /bin/sh, which every image has.
func Passwd(uid, gid int, name, home string) (passwd, group []byte) {
	name, home = field(name), field(home)
	if name == "" || name == "root" && uid != 0 || name == "nobody" && uid != overflow {
		name = "user"
	}
	if home == "" {
		home = "/"
	}
	type account struct {
		id, gid    int
		name, home string
	}
	accounts := []account{{0, 0, "root", "/root"}, {overflow, overflow, "nobody", "/nonexistent"}}
	self := account{uid, gid, name, home}
	switch uid {
	case 0:
		self.name = "root" // the name that everything expects of 0
		accounts[0] = self
	case overflow:
		accounts[1] = self
	default:
		accounts = append(accounts, self)
	}
	var p, g strings.Builder
	for _, a := range accounts {
		fmt.Fprintf(&p, "%s:x:%d:%d:%s:%s:/bin/sh\n", a.name, a.id, a.gid, a.name, a.home)
	}
	fmt.Fprintf(&g, "root:x:0:\ntty:x:5:\nnogroup:x:%d:\n", overflow)
	if gid != 0 && gid != 5 && gid != overflow {
		if name == "tty" || name == "nogroup" {
			name = "user"
		}
		fmt.Fprintf(&g, "%s:x:%d:\n", name, gid)
	}
	return []byte(p.String()), []byte(g.String())
}

// field makes s fit between two colons of a line.
func field(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ':' || r < ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, s)
}
