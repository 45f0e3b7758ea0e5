#!/bin/bash
# Container images into the image file of an OS, through a loop device.
#
#   seed-image.sh [OPTION...] IMAGE seed [ARGUMENT...]    palletjack seed --root TREE ARGUMENT...
#   seed-image.sh [OPTION...] IMAGE load [ARGUMENT...]    the cache onto the card, then palletjack unit --install TREE ARGUMENT...
#
#   --cache-dir DIR   palletjack's cache on this machine
#   --partition N     the root partition; found where IMAGE has one Linux partition, or a file system and no table
#   --grow SIZE       first make the file, its last partition and the file system larger by so much (`4G`)
#
# PALLETJACK is the program, `palletjack` unless set. Needs root, and util-linux, e2fsprogs and rsync; --grow needs fdisk.
set -euo pipefail

usage() {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
}

die() {
    printf 'seed-image: %s\n' "$1" >&2
    exit "${2:-1}"
}

program=${PALLETJACK:-palletjack}
cache='' partition='' grow=''
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --cache-dir | --partition | --grow)
            [ -n "${2:-}" ] || die "$1 needs a value" 2
            case $1 in
                --cache-dir) cache=$2 ;;
                --partition) partition=$2 ;;
                --grow) grow=$2 ;;
            esac
            shift 2
            ;;
        -*) die "unknown option $1; see --help" 2 ;;
        *) break ;;
    esac
done
[ $# -ge 2 ] || { usage >&2; exit 2; }
image=$1 way=$2
shift 2
case $way in
    seed) ;;
    load)
        [ -n "$cache" ] || die "load needs --cache-dir, the cache that is to be on the card" 2
        [ -f "$cache/docker-archives/index.json" ] || die "there is no cache with images at $cache" 2
        ;;
    *) die "seed or load, and not '$way'" 2 ;;
esac
[[ $partition =~ ^[0-9]*$ ]] || die "--partition takes a number, not '$partition'" 2
[[ $grow =~ ^([1-9][0-9]*[KMG]?)?$ ]] || die "--grow takes a size like 512M or 4G, not '$grow'" 2
[ -f "$image" ] || die "$image is not a file" 2
[ "$(id -u)" = 0 ] || die "loop devices and mounts need root: run it with sudo"
tools=("$program" losetup partx blkid mount)
[ "$way" != load ] || tools+=(flock rsync)
[ -z "$grow" ] || tools+=(truncate sfdisk e2fsck resize2fs)
for tool in "${tools[@]}"; do
    command -v "$tool" >/dev/null || die "$tool is not installed"
done
image=$(realpath "$image")
[ -z "$(losetup --noheadings --associated "$image")" ] ||
    die "$image is in use: losetup --associated '$image' says by what"

# Offset and length in bytes of the root file system. By these, and not by the partitions' own device nodes, which a container
# or a kernel without loop.max_part does not have.
offset=0 length=0
if [ -n "$(blkid --probe --output value --match-tag PTTYPE "$image" || true)" ]; then
    linux='^(0x83|0fc63daf-8483-4772-8e79-3d69d8477de4|4f68bce3-e8cd-4db1-96e7-fbcaf984b709|b921b045-1df0-41c3-af44-4c6f280d3fae|69dad710-2ce4-4e3c-b16c-21a1d49abed3)$'
    find_partition() {
        partx --show --noheadings --output NR,TYPE,START,SECTORS "$image" | while read -r nr type start sectors; do
            if [ "$nr" = "$partition" ] || { [ -z "$partition" ] && [[ $type =~ $linux ]]; }; then
                printf '%s %s %s\n' "$nr" "$start" "$sectors"
            fi
        done
    }
    found=$(find_partition)
    [ -n "$found" ] || die "$image has no ${partition:+partition $partition}${partition:-Linux partition}" 2
    [ "$(wc -l <<<"$found")" = 1 ] || die "$image has several Linux partitions: say --partition N" 2
    if [ -n "$grow" ]; then
        last=$(partx --show --noheadings --output START,NR "$image" | sort --numeric-sort | tail --lines=1)
        [ "${last##* }" = "${found%% *}" ] || die "only the last partition can grow, and the root is not the last of $image" 2
        truncate --size="+$grow" "$image"
        printf ', +\n' | sfdisk --quiet --no-reread --no-tell-kernel -N "${found%% *}" "$image"
        found=$(find_partition)
    fi
    read -r _ start sectors <<<"$found"
    offset=$((start * 512)) length=$((sectors * 512))
elif [ "$(blkid --probe --output value --match-tag USAGE "$image" || true)" = filesystem ]; then
    [ -z "$partition" ] || die "$image has no partitions" 2
    [ -z "$grow" ] || truncate --size="+$grow" "$image"
else
    die "$image has neither a partition table nor a file system" 2
fi

# Whatever happens: nothing stays mounted.
loop='' tree=''
clean() {
    status=$?
    trap - EXIT
    if [ -n "$tree" ]; then
        if mountpoint --quiet "$tree"; then
            umount "$tree" || { umount --lazy "$tree"; status=1; }
        fi
        rmdir "$tree" || true
    fi
    [ -z "$loop" ] || losetup --detach "$loop" || status=1
    exit "$status"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

sizes=(--offset "$offset")
[ "$length" = 0 ] || sizes+=(--sizelimit "$length")
loop=$(losetup --find --show "${sizes[@]}" "$image")
if [ -n "$grow" ]; then
    # 1: it had to be mended, and is.
    e2fsck -f -p "$loop" >&2 || [ $? = 1 ] || die "the file system in $image is damaged"
    resize2fs "$loop" >&2
fi
tree=$(mktemp --directory)
mount "$loop" "$tree"

if [ "$way" = seed ]; then
    "$program" ${cache:+--cache-dir "$cache"} seed --root "$tree" "$@"
else
    card=$tree/var/cache/palletjack
    mkdir -p "$card"
    # As one who reads the cache: nothing is swept from it meanwhile. What this machine's engines were sent is not the card's.
    flock --shared "$cache/state/lock" rsync --archive --delete --chown=0:0 \
        --exclude=/state/ingest --exclude=/state/scratch --exclude=/state/unsettled "$cache/" "$card/"
    "$program" --cache-dir "$card" cache verify
    "$program" unit --install "$tree" "$@"
fi
df --human-readable --output=size,used,avail "$tree" >&2
