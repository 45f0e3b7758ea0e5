#!/bin/bash -e
# The pallet's container images into the tree, by the machine that builds it: no network, nothing of the tree is run.
#
# In pi-gen's config:
#   export CARD_PALLET=/path/to/pallet            its images are cached before: palletjack dev plt cache-img --platform linux/arm64
#   export CARD_CACHE=/path/to/cache              palletjack's cache with them
#   export CARD_WAY=seed                          or: load, at the device's first boot
#   export CARD_PALLETJACK=/path/to/palletjack    for the device's processor; with load alone, copied into the tree
#   export PALLETJACK=/path/to/palletjack         for this machine; `palletjack` of the PATH unless set

program=${PALLETJACK:-palletjack}
for variable in ROOTFS_DIR CARD_PALLET CARD_CACHE; do
    if [ ! -d "${!variable}" ]; then
        echo "${variable} is not a directory: '${!variable}'" >&2
        exit 2
    fi
done

case "${CARD_WAY:-seed}" in
seed)
    "$program" --cache-dir "${CARD_CACHE}" seed --root "${ROOTFS_DIR}" --plt "${CARD_PALLET}"
    ;;
load)
    card=${ROOTFS_DIR}/var/cache/palletjack
    mkdir -p "${card}"
    # As one who reads the cache: nothing is swept from it meanwhile. What this machine's engines were sent is not the card's.
    flock --shared "${CARD_CACHE}/state/lock" rsync --archive --delete --chown=0:0 \
        --exclude=/state/ingest --exclude=/state/scratch --exclude=/state/unsettled "${CARD_CACHE}/" "${card}/"
    "$program" --cache-dir "${card}" cache verify
    # References, digests and all, one a line.
    list=$("$program" dev --cwd "${CARD_PALLET}" plt ls-img)
    images=()
    [ -z "${list}" ] || mapfile -t images <<<"${list}"
    "$program" unit --install "${ROOTFS_DIR}" ${CARD_PALLETJACK:+--binary "${CARD_PALLETJACK}"} "${images[@]}"
    ;;
*)
    echo "CARD_WAY is seed or load, and not '${CARD_WAY}'" >&2
    exit 2
    ;;
esac
