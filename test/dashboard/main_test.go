// Package dashboard_test uses the dashboard of the real server as people do, in
// headless Chromium, and looks at every page of it: with axe-core, at the least and
// the greatest width that it is made for, in dark and in light.
//
// A test that fails leaves a picture and the HTML of its last page. They and the
// pictures of all screens are in the folder that GRAHAK_SCREENSHOTS names, or else in
// build/screenshots.
package dashboard_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"grahak/internal/testkit"
)

// bound is when what is waited for must have happened, however busy the machine.
const bound = time.Minute

// browser is where every tab is opened. Main starts it.
var browser context.Context

func TestMain(m *testing.M) {
	// More than two windows at a time would only wait for each other.
	flag.Parse()
	if err := flag.Set("test.parallel", "2"); err != nil {
		panic(err)
	}
	os.Exit(inBrowser(func() int { return testkit.Main(m) }))
}

// inBrowser starts the browser for run, and returns what that returns when the browser
// has gone with all of its files.
func inBrowser(run func() int) (code int) {
	program, err := chromium()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fonts, err := filepath.Abs(filepath.Join("testdata", "fonts.conf"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	profile, err := os.MkdirTemp("", "grahak-browser-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// What the browser's last process may still write is not worth a failure.
	defer func() { _ = os.RemoveAll(profile) }()

	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.UserDataDir(profile), chromedp.DisableGPU,
		chromedp.Flag("headless", "new"), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-quic", true),
		// No proxy of the person who runs the tests.
		chromedp.Flag("no-proxy-server", true), chromedp.Env("FONTCONFIG_FILE="+fonts),
		chromedp.WSURLReadTimeout(bound))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // It refuses to run as root with it.
	}
	allocator, free := chromedp.NewExecAllocator(context.Background(), options...)
	defer free()
	var end context.CancelFunc
	browser, end = chromedp.NewContext(allocator)
	defer end()
	if err := chromedp.Do(browser); err != nil {
		fmt.Fprintf(os.Stderr, "%s does not start: %v\n", program, err)
		return 1
	}
	return run()
}

// chromium returns the path of the browser: $CHROME, or what scripts/need installs.
func chromium() (string, error) {
	for _, name := range []string{os.Getenv("CHROME"), "chromium-headless-shell", "chromium", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("Chromium is not installed. On Debian, as root: apt-get install -y chromium-headless-shell fonts-liberation; elsewhere name the program in CHROME")
}

// pictures returns the folder for screenshots.
func pictures(t testing.TB) string {
	t.Helper()
	folder := os.Getenv("GRAHAK_SCREENSHOTS")
	if folder == "" {
		folder = filepath.Join(testkit.ModuleRoot(t), "build", "screenshots")
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	return folder
}
