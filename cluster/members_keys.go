package cluster

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ParseGossipKeys reads a comma list of gossip keys, each 16, 24 or 32 bytes
// in hexadecimal or in base64 (standard or URL-safe, padded or not). The first
// encrypts, all of them decrypt. An empty list means no encryption.
//
// Text of 32, 48 or 64 hexadecimal digits is always taken for hexadecimal; a
// random base64 key looks like that once in 10^13. Errors name the key by its
// place in the list and never show it.
func ParseGossipKeys(list string) ([][]byte, error) {
	var keys [][]byte
	for i, text := range strings.Split(list, ",") {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		key, err := parseKey(text)
		if err != nil {
			return nil, fmt.Errorf("gossip key %d: %w", i+1, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func parseKey(text string) ([]byte, error) {
	if key, err := hex.DecodeString(text); err == nil && keySize(len(key)) {
		return key, nil
	}
	plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	key, err := base64.RawStdEncoding.DecodeString(plain)
	if err != nil {
		return nil, errors.New("is neither base64 nor hexadecimal")
	}
	if !keySize(len(key)) {
		return nil, fmt.Errorf("has %d bytes; 16, 24 and 32 are allowed", len(key))
	}
	return key, nil
}

func keySize(n int) bool { return n == 16 || n == 24 || n == 32 }
