package auth

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// maxDocument is how long a DID document may be, in bytes.
const maxDocument = 128 << 10

var (
	errNotPublic = errors.New("address is not public")
	errNotHTTPS  = errors.New("DID documents are fetched over https only")
	errTooLong   = fmt.Errorf("more than %d bytes", maxDocument)
)

// notPublic are the networks that netip's own predicates leave out: IANA's
// special-purpose registries, and those that lead to IPv4 addresses.
var notPublic = prefixes(
	"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
	"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
	"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16",
	"3fff::/20", "5f00::/16", "fec0::/10",
)

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, s := range texts {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// PublicAddress reports whether a is an address of the public Internet: not
// private, loopback, link-local, shared (CGNAT), multicast, unspecified,
// reserved, or one of those in the clothes of an IPv6 address.
func PublicAddress(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsValid() || !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// refuseNotPublic is a net.Dialer's Control: it sees the address that is really
// connected to, after names were resolved, so that no name can lead elsewhere
// between a check and its use.
func refuseNotPublic(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dial %q: %w", address, errNotPublic)
	}
	if !PublicAddress(ap.Addr()) {
		return fmt.Errorf("dial %s: %w", ap.Addr(), errNotPublic)
	}
	return nil
}

// publicTransport connects to public addresses only, directly (a proxy would
// connect wherever it is told to), and waits for nothing long.
func publicTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: 3 * time.Second, Control: refuseNotPublic}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    3 * time.Second,
		ResponseHeaderTimeout:  4 * time.Second,
		MaxResponseHeaderBytes: 32 << 10,
		MaxConnsPerHost:        8,
		MaxIdleConns:           32,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        30 * time.Second,
	}
}

// documentTransport is what documents are fetched through: https only, bodies
// bounded. A refusal that will stay one (any 4xx but 408 and 429, and
// redirects, which are not followed) is passed on as 404, the one status that
// the resolver behind it takes for final.
type documentTransport struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t documentTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" {
		return nil, errNotHTTPS
	}
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	s := resp.StatusCode
	if s >= 300 && s < 500 && s != http.StatusRequestTimeout && s != http.StatusTooManyRequests {
		resp.StatusCode = http.StatusNotFound
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxDocument}
	return resp, nil
}

// boundedBody fails a read beyond what is left.
type boundedBody struct {
	io.ReadCloser
	left int
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	if len(p) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errTooLong
	}
	return n, err
}
