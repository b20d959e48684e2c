package manpage

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func program() *cobra.Command {
	root := &cobra.Command{Use: "thing", Short: "Do a thing", Long: "thing does it.\n\nExit status: 0 good."}
	nested := &cobra.Command{Use: "log", Short: "Logs"}
	show := &cobra.Command{
		Use: "show FILE", Short: "Show a log", Long: "Show it.\n\n  .hidden \\n column\n\n'quoted' words", Example: "thing log show -",
		Run: func(*cobra.Command, []string) {},
	}
	show.Flags().StringP("from", "f", "/x-y", "read from `file`")
	show.Flags().Bool("json", false, "print JSON")
	show.Flags().Bool("secret", false, "")
	if err := show.Flags().MarkHidden("secret"); err != nil {
		panic(err)
	}
	nested.AddCommand(show)
	hidden := &cobra.Command{Use: "hidden", Hidden: true, Run: func(*cobra.Command, []string) {}}
	root.AddCommand(nested, hidden)
	return root
}

func TestPage(t *testing.T) {
	got := Page(program())
	for _, want := range []string{
		".TH THING 1 ", "thing \\- do a thing\n", ".SS thing log show FILE\n", ".BI \"\\-f, \\-\\-from \" file\nread from file (default /x\\-y)\n",
		"  .hidden \\en column\n", "\\&'quoted' words\n", "thing log show \\-\n", ".B \\-\\-json\nprint JSON\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("page lacks %q:\n%s", want, got)
		}
	}
	for _, not := range []string{"hidden\n.PP", "secret", ".SS thing log\n"} {
		if strings.Contains(got, not) {
			t.Errorf("page has %q:\n%s", not, got)
		}
	}
}

// An independent reader takes the page without a warning where it is installed.
func TestPageIsGoodRoff(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Log("groff is not installed: the page's form was checked by TestPage alone")
		return
	}
	cmd := exec.Command(groff, "-man", "-ww", "-z", "-Tutf8")
	cmd.Stdin = strings.NewReader(Page(program()))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("groff: %v: %s", err, out)
	}
}
