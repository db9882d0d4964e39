package dashboard

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"strings"
)

//go:embed static
var staticFiles embed.FS

// asset is a file that pages refer to. Its name has a hash of what is in it, so browsers
// may keep it for as long as they like.
type asset struct {
	url, contentType string
	body             []byte
}

var assets = map[string]asset{
	"app.css":  readAsset("app.css", "text/css; charset=utf-8"),
	"app.js":   readAsset("app.js", "text/javascript; charset=utf-8"),
	"icon.svg": readAsset("icon.svg", "image/svg+xml"),
}

func readAsset(name, contentType string) asset {
	body, err := staticFiles.ReadFile("static/" + name)
	if err != nil {
		panic(err) // The compiler has put it there.
	}
	sum := sha256.Sum256(body)
	ext := path.Ext(name)
	return asset{root + "static/" + strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:6]) + ext, contentType, body}
}

func assetURL(name string) string { return assets[name].url }

var staticRoutes = []route{get(root+"static/{file}", open, static)}

// static answers with a file. One that the page of another version of the program asks
// for is not here any more.
func static(p *page) error {
	for _, a := range assets {
		if a.url != root+"static/"+p.value("file") {
			continue
		}
		p.x.Quiet = true
		p.x.Delegate(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", a.contentType)
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
			_, _ = w.Write(a.body)
		}))
		return nil
	}
	return errNotFound
}
