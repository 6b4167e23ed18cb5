// Command livenessprobe stands in for kubernetes-csi/livenessprobe, which the
// module proxy does not serve: with the flags that the driver's chart passes,
// it answers the kubelet's HTTP probe with the driver's own CSI Probe.
package main

import (
	"context"
	"flag"
	"log"
	"net/http"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	csiAddress := flag.String("csi-address", "/csi/csi.sock", "the driver's socket")
	timeout := flag.Duration("probe-timeout", time.Second, "how long a Probe may take")
	endpoint := flag.String("http-endpoint", "", "where to answer /healthz")
	flag.Int("v", 2, "accepted for the chart's sake")
	flag.Parse()

	conn, err := grpc.NewClient("unix:"+*csiAddress, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		log.Fatal(err)
	}
	driver := csi.NewIdentityClient(conn)
	http.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), *timeout)
		defer cancel()
		probe, err := driver.Probe(ctx, &csi.ProbeRequest{})
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		case probe.Ready != nil && !probe.Ready.Value:
			http.Error(w, "not ready", http.StatusInternalServerError)
		}
	})
	log.Fatal(http.ListenAndServe(*endpoint, nil))
}
