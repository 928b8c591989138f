#!/bin/sh
# Prints the version of this tree, without a v. Everything that names a version
# asks here: --version and /health, images, archives, the packed chart.
#
#   1.2.3                                     the commit has the tag v1.2.3, and nothing is changed
#   1.2.4-next.20260131120000.g0123456789ab   any other: the version that comes next, when it was committed, and as what
#   ….dirty                                   with changes that are not committed
#   1.2.4-next                                what is not released, without git: a source archive
#
# Later commits sort after earlier ones and before the version that comes next. All
# of it may stand in an image's tag and in a label of Kubernetes, which takes no
# "+". It depends on the commit and its tags, and not on how much of the history
# is here, so that a shallow clone says the same.
#
# "version.sh partial" is for a tree that lacks files on purpose, as an image's
# build does: it does not count those as changes.
set -eu
cd "$(dirname "$0")/.."

# What the chart says is either what was released last or what comes next.
chart=$(sed -n 's/^version: *//p' charts/catbird/Chart.yaml)
released=$(sed -n 's/^## \[*\([0-9][0-9.]*\).*/\1/p' CHANGELOG.md | head -n 1)
next=$chart
if [ "$chart" = "$released" ]; then
	next=${chart%.*}.$((${chart##*.} + 1))
fi

# A repository that this tree merely lies in is another's. A builder may run as
# somebody else than who owns the files.
GIT_CEILING_DIRECTORIES=$(dirname "$(pwd -P)")
GIT_OPTIONAL_LOCKS=0
export GIT_CEILING_DIRECTORIES GIT_OPTIONAL_LOCKS
ours() { git -c safe.directory='*' -c core.fileMode=false -c versionsort.suffix=- "$@"; }

if ! commit=$(ours rev-parse --verify --quiet HEAD 2>/dev/null); then
	# The archive of a release has nothing in the changelog that is not released.
	if [ "$chart" = "$released" ] && ! sed -n '/^## \[*Unreleased/,/^## \[*[0-9]/p' CHANGELOG.md | grep -qv -e '^## ' -e '^[[:space:]]*$'; then
		echo "$chart"
	else
		echo "$next-next"
	fi
	exit
fi

changes=$(ours status --porcelain --untracked-files=all)
if [ "${1-}" = partial ]; then
	changes=$(printf '%s\n' "$changes" | grep -v '^ D' || true)
fi
tag=$(ours tag --points-at HEAD --sort=-version:refname |
	grep -E '^v(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}(-[0-9A-Za-z.-]+)?$' | head -n 1 || true)

if [ -n "$tag" ] && [ -z "$changes" ]; then
	echo "${tag#v}"
else
	at=$(TZ=UTC ours log -1 --no-show-signature --date=format-local:%Y%m%d%H%M%S --format=%cd HEAD)
	echo "$next-next.$at.g$(printf %.12s "$commit")${changes:+.dirty}"
fi
