// Command signer runs only inside the virtual device: it asks the daemon's local
// socket for a signature by a key of the device, as a medical application does
// (docs/programs.md), and prints chain and signature, or the refusal, as JSON.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"ward/internal/agent/localapi"
)

// Answer is what it prints.
type Answer struct {
	Chain     string `json:"chain,omitempty"`
	Signature []byte `json:"signature,omitempty"`
	Status    int    `json:"status,omitempty"` // of the refusal
	Refused   string `json:"refused,omitempty"`
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: signer SOCKET USE TEXT")
		os.Exit(2)
	}
	a, err := ask(os.Args[1], os.Args[2], os.Args[3])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(a)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "signer:", err)
		os.Exit(3)
	}
}

func ask(socket, use, text string) (Answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c := localapi.NewClient(socket)
	chain, err := c.Chain(ctx, use)
	var signature []byte
	if err == nil {
		signature, err = c.Sign(ctx, use, sha256.Sum256([]byte(text)))
	}
	var refusal *localapi.Refusal
	if errors.As(err, &refusal) {
		return Answer{Chain: string(chain), Status: refusal.Status, Refused: refusal.Reason}, nil
	}
	return Answer{Chain: string(chain), Signature: signature}, err
}
