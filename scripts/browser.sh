#!/usr/bin/env bash
# A Chromium for the tests of the live page: the one that is there or, where we are root, Debian's.
# Without one those tests are skipped, and fail where CI is set.
set -u
[ -z "${CHROMIUM_BIN:-}" ] || exit 0
for name in chromium chromium-headless-shell google-chrome chrome; do
    command -v "$name" >/dev/null && exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing a headless Chromium for the tests of the live page"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends chromium-headless-shell >/dev/null && exit 0
fi
echo "No Chromium: the tests of the live page need one. Set CHROMIUM_BIN, or install chromium."
