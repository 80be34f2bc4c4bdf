// Draws every picture in its place, again when the reader's light or dark setting changes;
// sifts the table of decisions.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
async function draw() {
  const look = dark.matches ? looks.dark : looks.light;
  for (const [name, spec] of Object.entries(specs)) {
    await vegaEmbed(document.getElementById(name), spec, {
      mode: "vega-lite",
      config: look,
      actions: { export: true, source: false, compiled: false, editor: false },
      downloadFileName: name,
      tooltip: { theme: dark.matches ? "dark" : "light" },
    });
  }
  document.body.dataset.drawn = "yes";
}
dark.addEventListener("change", draw);
draw();
const sift = document.getElementById("sift");
if (sift) sift.addEventListener("input", () => {
  const wanted = sift.value.toLowerCase();
  for (const row of document.querySelectorAll("#decisions tbody tr"))
    row.hidden = !row.textContent.toLowerCase().includes(wanted);
});
