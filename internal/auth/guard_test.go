package auth

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"testing"
)

func TestPublicAddress(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"1.1.1.1": true, "8.8.8.8": true, "172.32.0.1": true, "100.128.0.1": true, "2606:4700::1111": true, "2a00:1450::1": true,

		"0.0.0.0": false, "0.1.2.3": false, "127.0.0.1": false, "127.255.255.254": false, "10.0.0.1": false,
		"172.16.0.1": false, "172.31.255.255": false, "192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false,
		"100.127.255.255": false, "192.0.0.8": false, "192.0.2.1": false, "198.18.0.1": false, "198.51.100.1": false,
		"203.0.113.1": false, "224.0.0.1": false, "239.255.255.255": false, "240.0.0.1": false, "255.255.255.255": false,

		"::": false, "::1": false, "::127.0.0.1": false, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false,
		"::ffff:169.254.169.254": false, "64:ff9b::7f00:1": false, "64:ff9b:1::1": false, "100::1": false, "2001::1": false,
		"2001:db8::1": false, "2002:7f00:1::1": false, "3fff::1": false, "fc00::1": false, "fd00:ec2::254": false,
		"fe80::1": false, "fe80::1%eth0": false, "fec0::1": false, "ff02::1": false, "::ffff:1.1.1.1": true,
	} {
		if got := PublicAddress(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: got %v, want %v", address, got, want)
		}
	}
	if PublicAddress(netip.Addr{}) {
		t.Error("no address at all is public")
	}
}

// TestTransportRefusesWhatNamesLeadTo: it is the address connected to that
// counts, whatever the URL says.
func TestTransportRefusesWhatNamesLeadTo(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	transport := publicTransport()
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: documentTransport{transport}}
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0", "2130706433", "127.1"} {
		resp, err := client.Get("https://" + host + ":" + port + "/")
		if err == nil {
			resp.Body.Close()
		}
		var dns *net.DNSError // some of these are no host names here
		if !errors.Is(err, errNotPublic) && !errors.As(err, &dns) {
			t.Errorf("%s: got %v, want errNotPublic", host, err)
		}
	}
	if !errors.Is(refuseNotPublic("tcp", "somewhere", nil), errNotPublic) {
		t.Error("an address that is none is let through")
	}
	if err := refuseNotPublic("tcp", "1.1.1.1:443", nil); err != nil {
		t.Errorf("a public address is refused: %v", err)
	}
}

func TestTransportRefusesPlainHTTP(t *testing.T) {
	t.Parallel()
	client := http.Client{Transport: documentTransport{bodyTransport("x")}}
	if _, err := client.Get("http://chat.example.com/"); !errors.Is(err, errNotHTTPS) {
		t.Errorf("got %v, want errNotHTTPS", err)
	}
}
