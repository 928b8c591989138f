# One static binary for each of the two tools, on nothing: no shell, no package
# manager, nobody but a user without a name or a home.
#
#   docker build -t catbird .                              for this machine
#   make image                                             the same, tagged and labelled with the version
#   make image PLATFORMS=linux/amd64,linux/arm64 PUSH=1    for several, to a registry
#
# Where no VERSION is given the programs have the one that git says. An image of
# a folder without .git has the one of the changelog.

# The compiler runs on the builder's own platform, whatever it compiles for.
ARG GO_VERSION=1.26
FROM --platform=$BUILDPLATFORM golang:${GO_VERSION} AS build
WORKDIR /src
ENV CGO_ENABLED=0 GOTOOLCHAIN=local

# Dependencies change less often than the code: a layer of their own.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download

COPY . .
ARG VERSION=
ARG TARGETOS TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    version="${VERSION:-$(sh tools/version.sh partial)}" && test -n "$version" && \
    GOOS=${TARGETOS} GOARCH=${TARGETARCH} go build -trimpath -buildvcs=false \
    -ldflags "-s -w -X catbird/internal/obs.version=$version" \
    -o /rootfs/usr/local/bin/ ./cmd/catbird-server ./cmd/catbirdctl

# What a static binary still looks for: whom to trust, and who it is. DATA_DIR
# belongs to that user; with DATABASE_URL nothing is ever written there.
RUN mkdir -p /rootfs/etc/ssl/certs /rootfs/data \
    && cp /etc/ssl/certs/ca-certificates.crt /rootfs/etc/ssl/certs/ \
    && echo 'catbird:x:65532:65532:catbird:/nonexistent:/sbin/nologin' > /rootfs/etc/passwd \
    && echo 'catbird:x:65532:' > /rootfs/etc/group \
    && chown 65532:65532 /rootfs/data && chmod 0700 /rootfs/data

FROM scratch
# A label can only say what is given.
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="catbird" \
      org.opencontainers.image.description="Delivery service for end-to-end encrypted group chat (MLS)" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /rootfs/ /
ENV PATH=/usr/local/bin DATA_DIR=/data
# A number, so that a cluster can tell that it is not root.
USER 65532:65532
# Clients, other nodes and operators, gossip.
EXPOSE 8080 8081 7946/tcp 7946/udp
ENTRYPOINT ["catbird-server"]
CMD ["serve"]
