# Prints the owner label, if there is one.
[ ! -e /etc/castrum/owner ] || cat /etc/castrum/owner
