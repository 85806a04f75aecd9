#!/bin/sh
# Start Redis with the users of users.conf and a file of more settings. Passwords are variables, REDIS_<USER>_PASSWORD,
# and go in by stdin: they stand in no file and in no list of processes. REDIS_SERVER: another program.
set -eu
eval "exec \"\${REDIS_SERVER:-redis-server}\" - <<EOF
include \"\$1\"
$(grep -v '^#' "$(dirname "$0")/users.conf")
EOF"
