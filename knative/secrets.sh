#!/bin/sh
# Fill knative/secrets/, or the folder or the file (*.env) given, with random values. What is there stays as it is; names
# that are missing, because a later version has more of them, are added.
# Keep them: with other values the users of MinIO are changed by the set-up Job, but not the passwords people noted down.
set -eu
target=${1:-$(dirname "$0")/secrets}

random() {
    od -An -N16 -tx1 /dev/urandom | tr -d ' \n'
}

# value NAME FILE: what the file gives it
value() {
    sed -nE "s/^[[:space:]]*(export[[:space:]]+)?$1[[:space:]]*=[[:space:]]*//p" "$2" 2>/dev/null | tr -d '\r' | tail -n 1
}

# fill FILE NAME...: a random value for each name that the file lacks
fill() {
    case $target in *.env) file=$target ;; *) file=$target/$1 ;; esac
    shift
    missing=
    for name; do
        [ -n "$(value "$name" "$file")" ] || missing="$missing $name"
    done
    [ -n "$missing" ] || return 0
    [ ! -e "$file" ] || cp -p "$file" "$file.new" # with its rights
    {
        # Without names that have no value; awk, as the last line may have no end.
        [ ! -e "$file" ] || grep -Ev "^[[:space:]]*(export[[:space:]]+)?($(echo $missing | tr ' ' '|'))[[:space:]]*=" "$file" | awk 1
        for name in $missing; do
            case $name in
                *CALLBACK_SECRET) echo "$name=whsec_$(random)" ;;
                *) echo "$name=$(random)" ;;
            esac
        done
    } >"$file.new"
    mv "$file.new" "$(readlink -f "$file" 2>/dev/null || echo "$file")"
    echo "$file: written:$missing" >&2
}

umask 077
fill minio-root.env MINIO_ROOT_USER MINIO_ROOT_PASSWORD
fill minio-users.env STEMS_SEPARATE_SECRET_KEY STEMS_TRACKS_SECRET_KEY STEMS_RELAY_SECRET_KEY STEMS_UPLOADER_SECRET_KEY
fill redis.env REDIS_MINIO_PASSWORD REDIS_RELAY_PASSWORD REDIS_SEPARATE_PASSWORD REDIS_TRACKS_PASSWORD REDIS_LOGS_PASSWORD \
    REDIS_ADMIN_PASSWORD
fill callback.env STEMS_CALLBACK_SECRET
fill sink.env STEMS_SINK_SECRET
case $target in *.env) exit ;; esac

# The file that knows who may do what, and the token of the one it begins with.
if [ ! -e "$target/tokens" ]; then
    fill token.env STEMS_TOKEN
    token=$(value STEMS_TOKEN "$target/token.env")
    digest=$(printf %s "$token" | { sha256sum || shasum -a 256; } 2>/dev/null | cut -d' ' -f1)
    echo "admin admin $digest" >"$target/tokens"
    echo "$target/tokens: written" >&2
fi
