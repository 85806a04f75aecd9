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
fill redis.env REDIS_PASSWORD
fill callback.env STEMS_CALLBACK_SECRET
