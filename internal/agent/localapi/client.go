package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// ErrDown means that no daemon answers on the socket.
var ErrDown = errors.New("wardd does not answer")

// maxAnswer bounds what the client reads, in bytes.
const maxAnswer = 8 << 20

// Client asks a daemon through its socket.
type Client struct{ http http.Client }

// NewClient makes a client for a socket.
func NewClient(socket string) *Client {
	return &Client{http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, "unix", socket)
		},
	}}}
}

// Status asks how the device is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.get(ctx, "/v1/status", nil, &s)
}

// Events asks for events behind a cursor, waiting up to wait for the first.
func (c *Client) Events(ctx context.Context, after uint64, limit int, wait time.Duration) (Events, error) {
	q := url.Values{"after": {strconv.FormatUint(after, 10)}, "limit": {strconv.Itoa(limit)}}
	if wait > 0 {
		q.Set("wait", strconv.Itoa(int(wait.Seconds())))
	}
	var e Events
	return e, c.get(ctx, "/v1/events", q, &e)
}

func (c *Client) get(ctx context.Context, path string, q url.Values, into any) error {
	return c.ask(ctx, http.MethodGet, path, q, http.NoBody, into)
}

func (c *Client) ask(ctx context.Context, method, path string, q url.Values, send io.Reader, into any) error {
	u := url.URL{Scheme: "http", Host: "wardd", Path: path, RawQuery: q.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), send)
	if err != nil {
		return fmt.Errorf("ask wardd: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("%w: %w", ErrDown, err)
		}
		if errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("ask wardd: this user may not open its socket: ask as root or as a member of the group that reads Ward's state")
		}
		return fmt.Errorf("ask wardd: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("ask wardd: %w", err)
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("ask wardd: answer of more than %d bytes", maxAnswer)
	}
	if resp.StatusCode != http.StatusOK {
		refusal := &Refusal{Status: resp.StatusCode, Reason: resp.Status}
		var r struct{ Error string }
		if json.Unmarshal(body, &r) == nil && r.Error != "" {
			refusal.Reason = r.Error
		}
		return fmt.Errorf("ask wardd: %w", refusal)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("ask wardd: parse answer: %w", err)
	}
	return nil
}
