// Runs in the page that a test opens: uses it as a visitor does and leaves what it saw on the root element.
{
  const all = (selector) => [...document.querySelectorAll(selector)];
  const seen = {};

  const table = document.querySelector(".sortable"), buttons = table.querySelectorAll("thead button");
  const column = (place) => [...table.tBodies[0].rows].map((row) => row.cells[place].innerText.trim());
  seen.first = column(0);
  buttons[2].click();
  seen.rising = column(2).map(parseFloat);
  seen.aria = buttons[2].parentElement.ariaSort;
  buttons[2].click();
  seen.falling = column(2).map(parseFloat);
  buttons[0].click();
  seen.names = column(0);

  const [one, two] = all("#pair select");
  const pick = (select, name) => {
    select.value = [...select.options].findLast((option) => option.text === name).value;
    select.dispatchEvent(new Event("change"));
  };
  const texts = (row) => [...row.cells].map((cell) => cell.innerText);
  const difference = () => all("#difference tr").slice(1).map(texts);
  pick(one, "dmsf, seed 0");
  pick(two, "dmsf, seed 1");
  seen.seeds = difference();
  pick(two, "dmsf, no_graph, seed 0");
  seen.variant = difference();
  seen.images = all("#galleries img").length;
  seen.links = all("#facts a").map((link) => link.getAttribute("href"));
  pick(two, "dmsf, seed 0");
  seen.same = [difference(), document.getElementById("count").innerText];

  const toggle = document.querySelector('[data-toggle="cca"]');
  const gone = () => all('[data-series="cca"]').every((line) => getComputedStyle(line).display === "none");
  seen.toggle = [gone()];
  for (let click = 0; click < 2; click++) {
    toggle.click();
    seen.toggle.push(gone());
  }

  const paper = () => getComputedStyle(document.body).backgroundColor;
  seen.theme = [paper()];
  document.getElementById("theme").click();
  seen.theme.push(paper());

  const named = (each) => each.textContent.trim() || each.ariaLabel || each.labels?.length;
  seen.unlabelled = all("button, select, .scroll").filter((each) => !named(each)).length;
  seen.unreachable = all("button, select, summary, a, .scroll").filter((each) => each.tabIndex < 0).length;
  seen.width = innerWidth;
  seen.wide = document.documentElement.scrollWidth > innerWidth;
  seen.cut = all(".scroll").some((each) => each.scrollWidth > each.clientWidth);
  document.documentElement.dataset.seen = JSON.stringify(seen);
}
