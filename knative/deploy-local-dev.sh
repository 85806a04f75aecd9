#!/usr/bin/env bash
# Deploy to the cluster of the current kubectl context (kind or any other with Knative Serving) and forward Redis, MinIO
# and the REST function to this machine, until Ctrl-C. A relay or a function that you start here then works with them.
#
#   knative/deploy-local-dev.sh            deploy, wait, forward
#   knative/deploy-local-dev.sh forward    forward only
#
# KUBE_CONTEXT: another context. OVERLAY: another overlay [kind]. MINIO_PORT, REDIS_PORT, TRACKS_PORT: other ports.
set -euo pipefail
cd "$(dirname "$0")/.."

overlay=knative/overlays/${OVERLAY:-kind}
namespace=$(sed -n 's/^namespace: *//p' "$overlay/kustomization.yaml")
minio_port=${MINIO_PORT:-9000} redis_port=${REDIS_PORT:-6379} tracks_port=${TRACKS_PORT:-8080}
context=${KUBE_CONTEXT:-$(kubectl config current-context)}
env_folder=.stems/cluster
wait=300s

say() { echo "  $*" >&2; }
die() { echo "Error: $*" >&2; exit 1; }
kube() { kubectl --context "$context" --namespace "$namespace" "$@"; }
secret() { sed -n "s/^$1=//p" knative/secrets/*.env; }

check() {
    kube version --request-timeout=10s >/dev/null || die "the cluster of the context $context does not answer"
    kube get crd services.serving.knative.dev >/dev/null 2>&1 ||
        die "no Knative Serving in the context $context: https://knative.dev/docs/install (knative/README.md has the commands for kind)"
}

# kind's nodes have their own store of images, and no registry.
load_images() {
    [[ $context == kind-* ]] || return 0
    local image
    for image in $(kubectl kustomize "$overlay" | sed -n 's/.*image: \(kind\.local\/[^ ]*\)/\1/p' | sort -u); do
        docker image inspect "$image" >/dev/null 2>&1 || die "no image $image here: build it first (knative/README.md)"
        say "loading $image"
        kind load docker-image --name "${context#kind-}" "$image" >/dev/null 2>&1 || die "kind does not take $image"
    done
}

deploy() {
    say "deploying $overlay to $context"
    # A Job cannot be changed, only made again.
    kube delete job minio-setup --ignore-not-found >/dev/null 2>&1 || true
    kube apply -k "$overlay"
}

wait_ready() {
    local thing
    for thing in statefulset/redis statefulset/minio deployment/relay deployment/logs; do
        say "waiting for $thing"
        kube rollout status --timeout "$wait" "$thing" >/dev/null || die "$thing does not come up"
    done
    say "waiting for the set-up of MinIO and for the functions"
    kube wait --for condition=Complete --timeout "$wait" job/minio-setup >/dev/null ||
        die "minio-setup fails: kubectl -n $namespace logs job/minio-setup"
    kube wait --for condition=Ready --timeout "$wait" ksvc/separate ksvc/tracks >/dev/null ||
        die "not ready: kubectl -n $namespace get ksvc,revision"
}

# forward TARGET-COMMAND LOCAL-PORT REMOTE-PORT: again whenever it ends, as it does when a pod goes
forward() {
    local child='' target
    trap '[ -z "$child" ] || kill "$child" 2>/dev/null; exit 0' TERM INT
    while :; do
        if target=$($1); then
            kubectl --context "$context" --namespace "$namespace" port-forward --address 127.0.0.1 "$target" "$2:$3" >/dev/null &
            child=$!
            wait "$child" || true
            child=''
        fi
        sleep 1
    done
}
redis_target() { echo service/redis; }
minio_target() { echo service/minio; }
# Knative's own Service of the newest revision: past the ingress, which goes by the name of the host.
tracks_target() {
    local revision
    revision=$(kube get ksvc tracks -o jsonpath='{.status.latestReadyRevisionName}') && [ -n "$revision" ] &&
        echo "service/$revision-private"
}

# One file for each part, and for a person: what a process on this machine needs to take its place.
write_env() {
    local user name redis_user password
    mkdir -p "$env_folder"
    for user in relay separate tracks uploader; do
        name=STEMS_$(echo "$user" | tr '[:lower:]' '[:upper:]')_SECRET_KEY
        redis_user=$user
        [ "$user" != uploader ] || redis_user=admin
        password=REDIS_$(echo "$redis_user" | tr '[:lower:]' '[:upper:]')_PASSWORD
        (umask 077 && cat >"$env_folder/$user.env") <<EOF
STEMS_S3_ENDPOINT=http://127.0.0.1:$minio_port
STEMS_S3_PUBLIC_ENDPOINT=http://127.0.0.1:$minio_port
STEMS_S3_ACCESS_KEY=$user
STEMS_S3_SECRET_KEY=$(secret "$name")
STEMS_REDIS_URL=redis://$redis_user:$(secret "$password")@127.0.0.1:$redis_port/0
STEMS_URL=http://127.0.0.1:$tracks_port
STEMS_LOG_FORMAT=text
K_SINK=http://127.0.0.1:8081
EOF
        case $user in
        relay)
            echo "STEMS_SINK_SECRET=$(secret STEMS_SINK_SECRET)"
            echo "STEMS_CALLBACK_SECRET=$(secret STEMS_CALLBACK_SECRET)"
            ;;
        separate) echo "STEMS_SINK_SECRET=$(secret STEMS_SINK_SECRET)" ;;
        uploader) echo "STEMS_TOKEN=$(secret STEMS_TOKEN)" ;;
        esac >>"$env_folder/$user.env"
    done
}

tell() {
    cat <<EOF

Forwarded until Ctrl-C:
  MinIO  http://127.0.0.1:$minio_port    Redis  127.0.0.1:$redis_port    tracks  http://127.0.0.1:$tracks_port

In another terminal:
  export MC_HOST_stems=http://uploader:$(secret STEMS_UPLOADER_SECRET_KEY)@127.0.0.1:$minio_port
  mc cp song.mp3 stems/queue/
  stems --env-file $env_folder/uploader.env status
  kubectl -n $namespace logs -f deployment/logs

A part of yours in place of the cluster's:
  stems --env-file $env_folder/separate.env serve separate      # at http://127.0.0.1:8081
  kubectl -n $namespace scale deployment/relay --replicas 0 && stems --env-file $env_folder/relay.env relay
EOF
}

case ${1:-deploy} in
deploy | forward) ;;
*) die "usage: knative/deploy-local-dev.sh [forward]" ;;
esac
check
knative/secrets.sh
if [ "${1:-deploy}" = deploy ]; then
    load_images
    deploy
    wait_ready
fi
write_env
forwards=()
stop() {
    trap - EXIT
    # bash waits for a child with a trap of its own: each of these ends its port-forward first.
    [ ${#forwards[@]} = 0 ] || kill "${forwards[@]}" 2>/dev/null || true
    wait
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
forward redis_target "$redis_port" 6379 & forwards+=($!)
forward minio_target "$minio_port" 9000 & forwards+=($!)
forward tracks_target "$tracks_port" 80 & forwards+=($!)
tell
wait
