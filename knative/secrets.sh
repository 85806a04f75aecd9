#!/bin/sh
# Fill knative/secrets/ (or the folder given) with random values, once: a file that is there stays as it is.
# Keep them: with other values the users of MinIO are changed by the set-up Job, but not the passwords people noted down.
set -eu
folder=${1:-$(dirname "$0")/secrets}

random() {
    od -An -N16 -tx1 /dev/urandom | tr -d ' \n'
}

# fill FILE NAME...: one random value for each name
fill() {
    file=$folder/$1
    shift
    [ -e "$file" ] && return
    for name; do
        case $name in
            *CALLBACK_SECRET) echo "$name=whsec_$(random)" ;;
            *) echo "$name=$(random)" ;;
        esac
    done >"$file.new"
    mv "$file.new" "$file"
    echo "$file: written" >&2
}

umask 077
fill minio-root.env MINIO_ROOT_USER MINIO_ROOT_PASSWORD
fill minio-users.env STEMS_SEPARATE_SECRET_KEY STEMS_TRACKS_SECRET_KEY STEMS_RELAY_SECRET_KEY STEMS_UPLOADER_SECRET_KEY
fill redis.env REDIS_MINIO_PASSWORD REDIS_RELAY_PASSWORD REDIS_SEPARATE_PASSWORD REDIS_TRACKS_PASSWORD REDIS_LOGS_PASSWORD \
    REDIS_ADMIN_PASSWORD
fill callback.env STEMS_CALLBACK_SECRET
fill sink.env STEMS_SINK_SECRET

# A token for the REST function, and the file that knows it.
fill token.env STEMS_TOKEN
if [ ! -e "$folder/tokens" ]; then
    token=$(sed -n s/^STEMS_TOKEN=//p "$folder/token.env")
    digest=$(printf %s "$token" | { sha256sum || shasum -a 256; } 2>/dev/null | cut -d' ' -f1)
    echo "admin admin $digest" >"$folder/tokens"
    echo "$folder/tokens: written" >&2
fi
