package cluster

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// redisKinds are the schemes without TLS; with rediss for redis they have it.
var redisKinds = map[string]redisKind{
	"redis": redisSingle, "redis-sentinel": redisSentinel, "redis+sentinel": redisSentinel,
	"redis-cluster": redisCluster, "redis+cluster": redisCluster,
}

type redisKind int

const (
	redisSingle redisKind = iota
	redisSentinel
	redisCluster
)

// parseRedisURL reads where Redis is. Errors never show the URL, which may
// hold a password.
//
//	redis://[user:password@]host[:port][/db]              one server
//	redis-sentinel://[user:password@]host,host/master[/db]
//	redis+cluster://[user:password@]host,host
//	unix:///path/to/socket
//
// rediss, rediss-sentinel and rediss+cluster use TLS. More addresses may be
// given as addr=host:port, the master's name as master_name, the database as
// db, credentials of the sentinels as sentinel_username and
// sentinel_password. A plain redis URL with a master_name is one for sentinels;
// with several addresses, one for a cluster.
func parseRedisURL(raw string) (*redis.UniversalOptions, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return nil, errors.New("must begin with redis:// or another scheme of Redis")
	}
	rest, rawQuery, _ := strings.Cut(rest, "?")
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, errors.New("query cannot be read")
	}
	o := &redis.UniversalOptions{}
	if scheme == "unix" {
		if rest == "" {
			return nil, errors.New("path of the socket is missing")
		}
		o.Addrs = []string{rest}
		return o, setQuery(o, query)
	}
	plain := strings.Replace(scheme, "rediss", "redis", 1)
	kind, known := redisKinds[plain]
	if !known {
		return nil, fmt.Errorf("scheme %q is not known", scheme)
	}
	if plain != scheme {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12} // the server's name is that of each address
	}
	authority, path, _ := strings.Cut(rest, "/")
	if err := setAuthority(o, authority, kind); err != nil {
		return nil, err
	}
	if err := setPath(o, strings.Trim(path, "/"), kind); err != nil {
		return nil, err
	}
	if err := setQuery(o, query); err != nil {
		return nil, err
	}
	if kind == redisSentinel && o.MasterName == "" {
		return nil, errors.New("master's name is missing")
	}
	o.IsClusterMode = kind == redisCluster
	if (o.IsClusterMode || len(o.Addrs) > 1 && o.MasterName == "") && o.DB != 0 {
		return nil, errors.New("a cluster has database 0 only")
	}
	return o, nil
}

func setAuthority(o *redis.UniversalOptions, authority string, kind redisKind) error {
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, password, _ := strings.Cut(authority[:at], ":")
		var err1, err2 error
		o.Username, err1 = url.PathUnescape(user)
		o.Password, err2 = url.PathUnescape(password)
		if err1 != nil || err2 != nil {
			return errors.New("user or password has a bad % escape")
		}
		authority = authority[at+1:]
	}
	port := 6379
	if kind == redisSentinel {
		port = 26379
	}
	for _, host := range strings.Split(authority, ",") {
		if err := addAddress(o, host, port); err != nil {
			return err
		}
	}
	return nil
}

func addAddress(o *redis.UniversalOptions, address string, defaultPort int) error {
	host, port, err := splitAddress(address, defaultPort)
	if err != nil {
		return errors.New("an address is not host or host:port")
	}
	o.Addrs = append(o.Addrs, net.JoinHostPort(host, strconv.Itoa(port)))
	return nil
}

func setPath(o *redis.UniversalOptions, path string, kind redisKind) error {
	if path == "" {
		return nil
	}
	parts := strings.Split(path, "/")
	if kind == redisSentinel {
		o.MasterName, parts = parts[0], parts[1:]
	}
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return setDB(o, parts[0])
	default:
		return errors.New("path has too many parts")
	}
}

func setDB(o *redis.UniversalOptions, text string) error {
	db, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return errors.New("database is not a number")
	}
	o.DB = int(db)
	return nil
}

func setQuery(o *redis.UniversalOptions, query url.Values) error {
	for name, values := range query {
		for _, v := range values {
			var err error
			switch name {
			case "addr":
				err = addAddress(o, v, 6379)
			case "db":
				err = setDB(o, v)
			case "master_name":
				o.MasterName = v
			case "sentinel_username":
				o.SentinelUsername = v
			case "sentinel_password":
				o.SentinelPassword = v
			default:
				err = fmt.Errorf("option %q is not known", name)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
