for (const box of document.querySelectorAll(".filter")) {
  const section = box.closest("section");
  const bodies = [...section.querySelectorAll("tbody.filtered")].map((body) =>
    [...body.rows].map((row) => [row, row.querySelector("th").textContent.toLowerCase()]));
  const input = box.querySelector("input");
  const output = box.querySelector("output");
  const filter = () => {
    const wanted = input.value.trim().toLowerCase();
    let shown = 0;
    for (const rows of bodies) {
      shown = 0;
      for (const [row, name] of rows) {
        row.hidden = !name.includes(wanted);
        shown += !row.hidden;
      }
    }
    const table = section.querySelector("details");
    if (wanted && table && section.dataset.table) table.open = true;
    output.textContent = wanted ? `${shown} of ${bodies.at(-1).length} classes` : "";
  };
  input.addEventListener("input", filter);
  box.hidden = false;
}
