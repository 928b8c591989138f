package peer

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	// streamVersion is the version of what is said after the hellos. Fields may
	// be added without a new one.
	streamVersion = 1

	authScheme  = "CatbirdPeer"
	helloHeader = "Catbird-Peer-Hello" // the server's
	upgradeName = "catbird-peer"

	// maxHello bounds a hello in its binary form, in bytes; maxName a name in it.
	maxHello = 1024
	maxName  = 255
)

// purpose is what a client's hello is for.
type purpose uint8

const (
	purposeSmall purpose = iota + 1
	purposeBulk
	purposePlain // one question in a plain request
)

// String returns the purpose as logs name it.
func (p purpose) String() string {
	switch p {
	case purposeSmall:
		return "small"
	case purposeBulk:
		return "bulk"
	case purposePlain:
		return "plain"
	default:
		return fmt.Sprintf("purpose %d", uint8(p))
	}
}

// Fields of a hello. These, and that the MAC of all is its last 32 bytes, must
// stay: versions are told apart inside.
const (
	helloVersion  = 1 // repeated, those offered; one, that chosen
	helloNode     = 2
	helloSoftware = 3
	helloKey      = 4 // X25519 public key, fresh: also the nonce
	helloPurpose  = 5
	helloWindow   = 6 // questions that may be under way at once
)

// hello is what each side says first.
type hello struct {
	versions []uint64
	node     string
	software string
	key      []byte
	purpose  purpose
	window   uint64
}

func (h *hello) append(b []byte) []byte {
	for _, v := range h.versions {
		b = appendUint(b, helloVersion, v)
	}
	b = appendString(b, helloNode, h.node)
	b = appendString(b, helloSoftware, h.software)
	b = appendBytes(b, helloKey, h.key)
	b = appendUint(b, helloPurpose, uint64(h.purpose))
	return appendUint(b, helloWindow, h.window)
}

func decodeHello(b []byte) (h hello, err error) {
	d := decoder{rest: b}
	for d.next() {
		switch d.field {
		case helloVersion:
			if d.limit(len(h.versions), 16) {
				h.versions = append(h.versions, d.uint())
			}
		case helloNode:
			h.node = d.string()
		case helloSoftware:
			h.software = d.string()
		case helloKey:
			h.key = slices.Clone(d.view())
		case helloPurpose:
			h.purpose = purpose(min(d.uint(), 255))
		case helloWindow:
			h.window = d.uint()
		}
	}
	if d.err != nil {
		return hello{}, fmt.Errorf("reading hello: %w", d.err)
	}
	if len(h.node) > maxName || len(h.software) > maxName {
		return hello{}, fmt.Errorf("reading hello: %w: name too long", errMalformed)
	}
	return h, nil
}

// secret is what both sides know, made into the key of the hellos' MACs and
// into the salt of the streams' keys.
type secret struct {
	mac  []byte
	salt []byte
}

func newSecret(cluster []byte) (secret, error) {
	if len(cluster) == 0 {
		return secret{}, errors.New("peer: the cluster secret is empty")
	}
	mac, err := hkdf.Key(sha256.New, cluster, nil, "catbird peer hello", sha256.Size)
	if err != nil {
		return secret{}, fmt.Errorf("deriving key of hellos: %w", err)
	}
	salt, err := hkdf.Key(sha256.New, cluster, nil, "catbird peer stream", sha256.Size)
	if err != nil {
		return secret{}, fmt.Errorf("deriving salt of streams: %w", err)
	}
	return secret{mac: mac, salt: salt}, nil
}

// sign appends the MAC of h, said by role in answer to prior (nil for the
// first word).
func (s secret) sign(role string, prior, h []byte) []byte {
	return append(h, s.sum(role, prior, h)...)
}

// verify returns the hello without its MAC if that is right.
func (s secret) verify(role string, prior, signed []byte) ([]byte, error) {
	if len(signed) < sha256.Size || len(signed) > maxHello {
		return nil, errUnauthorized
	}
	h, sum := signed[:len(signed)-sha256.Size], signed[len(signed)-sha256.Size:]
	if !hmac.Equal(sum, s.sum(role, prior, h)) {
		return nil, errUnauthorized
	}
	return h, nil
}

func (s secret) sum(role string, prior, h []byte) []byte {
	m := hmac.New(sha256.New, s.mac)
	// Each part has a fixed size, but the last: no two different hellos are the
	// same bytes.
	r, p := sha256.Sum256([]byte(role)), sha256.Sum256(prior)
	m.Write(r[:])
	m.Write(p[:])
	m.Write(h)
	return m.Sum(nil)
}

const (
	roleClient = "client"
	roleServer = "server"
)

// keys are the ciphers of the two directions.
type keys struct {
	toServer, toClient cipher.AEAD
}

// derive returns the keys of what follows the two signed hellos.
func (s secret) derive(own *ecdh.PrivateKey, other, client, server []byte) (keys, error) {
	pub, err := ecdh.X25519().NewPublicKey(other)
	if err != nil {
		return keys{}, fmt.Errorf("reading public key: %w", err)
	}
	shared, err := own.ECDH(pub)
	if err != nil {
		return keys{}, fmt.Errorf("exchanging keys: %w", err)
	}
	c, v := sha256.Sum256(client), sha256.Sum256(server)
	const size = 32
	material, err := hkdf.Key(sha256.New, shared, s.salt, string(c[:])+string(v[:]), 2*size)
	if err != nil {
		return keys{}, fmt.Errorf("deriving keys: %w", err)
	}
	var k keys
	if k.toServer, err = newAEAD(material[:size]); err != nil {
		return keys{}, err
	}
	k.toClient, err = newAEAD(material[size:])
	return k, err
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("making cipher: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("making cipher: %w", err)
	}
	return aead, nil
}

func newKeyPair() (*ecdh.PrivateKey, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making key: %w", err)
	}
	return key, nil
}

// offer is the client's side of a handshake that has begun.
type offer struct {
	secret secret
	key    *ecdh.PrivateKey
	signed []byte
}

func (s secret) offer(h hello) (*offer, error) {
	key, err := newKeyPair()
	if err != nil {
		return nil, err
	}
	h.versions, h.key = []uint64{streamVersion}, key.PublicKey().Bytes()
	return &offer{secret: s, key: key, signed: s.sign(roleClient, nil, h.append(nil))}, nil
}

// authorization is the header that carries the offer.
func (o *offer) authorization() string {
	return authScheme + " " + base64.RawURLEncoding.EncodeToString(o.signed)
}

// accept ends the client's side with what the server said in its header.
func (o *offer) accept(header string) (hello, keys, error) {
	signed, err := base64.RawURLEncoding.DecodeString(header)
	if err != nil {
		return hello{}, keys{}, errUnauthorized
	}
	raw, err := o.secret.verify(roleServer, o.signed, signed)
	if err != nil {
		return hello{}, keys{}, err
	}
	h, err := decodeHello(raw)
	if err != nil {
		return hello{}, keys{}, err
	}
	k, err := o.secret.derive(o.key, h.key, o.signed, signed)
	return h, k, err
}

// readOffer is the server's first step: it returns what the client said, or
// errUnauthorized. raw is the whole of it, for answer.
func (s secret) readOffer(authorization string) (h hello, raw []byte, err error) {
	encoded, ok := strings.CutPrefix(authorization, authScheme+" ")
	if !ok || len(encoded) > base64.RawURLEncoding.EncodedLen(maxHello) {
		return hello{}, nil, errUnauthorized
	}
	signed, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return hello{}, nil, errUnauthorized
	}
	plain, err := s.verify(roleClient, nil, signed)
	if err != nil {
		return hello{}, nil, err
	}
	h, err = decodeHello(plain)
	return h, signed, err
}

// answer is the server's second step: what to say in its header, and the keys.
func (s secret) answer(own, client hello, raw []byte) (header string, k keys, err error) {
	key, err := newKeyPair()
	if err != nil {
		return "", keys{}, err
	}
	own.key = key.PublicKey().Bytes()
	signed := s.sign(roleServer, raw, own.append(nil))
	k, err = s.derive(key, client.key, raw, signed)
	if err != nil {
		return "", keys{}, err
	}
	return base64.RawURLEncoding.EncodeToString(signed), k, nil
}

// commonVersion returns the version of the stream that both speak, 0 for none.
func commonVersion(offered []uint64, own uint64) uint64 {
	if slices.Contains(offered, own) {
		return own
	}
	return 0
}
