#!/bin/sh
# Rules with every feature, between a kernel's IPVS and lvsd: what ipvsadm saves, lvsadm restores and
# saves the same; what lvsadm saves, ipvsadm restores and saves the same.
#
#   LVSADM=path LVSD_SOCKET=path ./there-and-back.sh
#
# Needs root, ipvsadm and a kernel with ip_vs, whose rules it changes in a network namespace of its own
# only; and an lvsd without rules, such as that of `lvsd run --io none`. Exit status: 0 all the same, 1 not,
# 77 skipped. What ipvsadm saved is printed between two lines of dashes.
set -eu
rules=$(dirname "$0")/typed.rules
skip() { echo "skipped: $1" >&2; exit 77; }

if [ "${1-}" != inside ]; then
	command -v ipvsadm >/dev/null || skip "there is no ipvsadm"
	unshare --net ipvsadm -Ln >/dev/null 2>&1 || skip "no kernel's IPVS for a network namespace of our own"
	exec unshare --net sh "$0" inside
fi

# A kernel without an address takes every server for a broadcast address.
ip link set lo up
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
same() { diff -u "$dir/$1" "$dir/$2" && echo "the same: $3"; }

ipvsadm -R <"$rules"
ipvsadm -S -n >"$dir/kernel"
"$LVSADM" -R <"$dir/kernel"
"$LVSADM" -S -n >"$dir/restored"
same kernel restored "ipvsadm -S, lvsadm -R, lvsadm -S"

"$LVSADM" -C
"$LVSADM" -R <"$rules"
"$LVSADM" -S -n >"$dir/lvsd"
same kernel lvsd "the same rules typed for both"
ipvsadm -C
ipvsadm -R <"$dir/lvsd"
ipvsadm -S -n >"$dir/returned"
same lvsd returned "lvsadm -S, ipvsadm -R, ipvsadm -S"

echo ----
cat "$dir/kernel"
echo ----
