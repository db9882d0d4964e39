package web

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// The limits of a server. A client that is slower than these is cut off; a
// larger header is answered 431 by net/http.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
	// maxStreams is how many requests an HTTP/2 connection may have at once, so
	// that the limit on connections is one on requests as well.
	maxStreams = 32
)

// Server answers the requests of a listener.
type Server interface {
	// Serve answers the connections of l until Shutdown or Close, and then returns
	// [http.ErrServerClosed].
	Serve(l net.Listener) error
	// Shutdown closes l and idle connections, and waits until the requests in
	// flight are answered, or until ctx ends, whose error it then returns.
	Shutdown(ctx context.Context) error
	// Close closes l and all connections.
	Close() error
}

// NetServer is a server on net/http, which has TLS and HTTP/2 as well if it has a
// TLSConfig.
type NetServer struct{ *http.Server }

var _ Server = (*NetServer)(nil)

// Serve implements [Server].
func (s *NetServer) Serve(l net.Listener) error {
	if s.TLSConfig != nil {
		return s.ServeTLS(l, "", "")
	}
	return s.Server.Serve(l)
}

// NewServer returns a server for h with every limit set. tlsConfig may be nil.
func NewServer(h http.Handler, tlsConfig *tls.Config, logger *slog.Logger) *NetServer {
	return &NetServer{&http.Server{
		Handler:                      h,
		TLSConfig:                    tlsConfig,
		ReadHeaderTimeout:            readHeaderTimeout,
		ReadTimeout:                  readTimeout,
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeaderBytes,
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		DisableGeneralOptionsHandler: true,
		// net/http reports here what clients do wrong at the level of
		// connections, a broken TLS handshake say; worth seeing only when
		// looking for it.
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}}
}

// NewAPIServer returns a server for h with every limit set: a [PlainServer], or with a
// tlsConfig a [NetServer].
func NewAPIServer(h http.Handler, tlsConfig *tls.Config, logger *slog.Logger) Server {
	if tlsConfig == nil {
		return NewPlainServer(h, logger)
	}
	return NewServer(h, tlsConfig, logger)
}

// Limit bounds how many connections of l are open at once; further ones wait
// to be accepted.
func Limit(l net.Listener, connections int) net.Listener {
	return netutil.LimitListener(l, connections)
}
