#!/bin/bash -e
# The stage goes on from the tree of the stage before, which has Docker in it.

if [ ! -d "${ROOTFS_DIR}" ]; then
    copy_previous
fi
