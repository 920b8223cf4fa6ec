// Asks the JSON below /api and shows what comes; what is shown is text, never markup.
const at = (id) => document.getElementById(id);
const made = (name, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};
const place = (path, parameters) => `api/${path}?${new URLSearchParams({ index: at("index").value, ...parameters })}`;
const picture = (id) => made("img", { src: place("picture", { id }), alt: "", loading: "lazy" });

let about = {}, last = null, turn = 0, seed = 0;

const say = (words, wrong = false) => {
  at("status").textContent = words;
  at("status").classList.toggle("error", wrong);
};

const get = async (url, options) => {
  const answer = await fetch(url, options);
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content;
};

const show = (query, found) => {
  at("asked").replaceChildren(...query.shown(found));
  const marked = found.hits.filter((hit) => hit.right !== null);
  at("hits").replaceChildren(...found.hits.map((hit) => {
    const near = about.bits ? `${hit.distance} of ${about.bits} bits` : `distance ${hit.distance.toFixed(3)}`;
    const mark = hit.right === null ? [] : [made("b", { textContent: hit.right ? "✓ right" : "✗ wrong" })];
    const image = found.among === "image" ? [picture(hit.id)] : [];
    const facts = made("small", {}, made("span", { textContent: `${hit.rank}. ${near}` }), ...mark);
    const state = hit.right === null ? "" : hit.right ? "right" : "wrong";
    return made("li", { className: state }, ...image, made("p", { textContent: hit.name, title: hit.name }), facts);
  }));
  const right = marked.length ? `, ${marked.filter((hit) => hit.right).length} of ${marked.length} right` : "";
  const kind = found.among === "image" ? "pictures" : "texts";
  say(`${found.hits.length} nearest of ${about.sizes[found.among].toLocaleString("en")} ${kind} in ${found.milliseconds} ms${right}`);
  at("answer").hidden = false;
};

const ask = async (query) => {
  last = query;
  const mine = ++turn;  // an older answer must not overwrite a newer one
  say("searching ...");
  try {
    const found = await get(place("search", { k: at("k").value, ...query.parameters }), query.options);
    if (mine === turn) show(query, found);
  } catch (error) {
    if (mine === turn) say(error.message, true);
  }
};

const askPicture = (file) => {
  const url = URL.createObjectURL(file);
  const shown = () => [made("img", { src: url, alt: "the picture asked with" }), file.name || "a picture"];
  ask({ parameters: {}, options: { method: "POST", body: file }, shown });
};

const words = (text) => ({ parameters: { text }, shown: () => [text] });
const example = (item, side) => ({
  parameters: { example: item.id, side },
  shown: (found) => side === "image" ? [picture(item.id), "What is said of this picture?"] : [found.query],
});

const examples = async () => {
  const found = about.examples ? await get(place("examples", { count: 8, seed })) : [];
  at("examples").hidden = !found.length;
  at("examples").querySelector("ul").replaceChildren(...found.map((item) => {
    const image = made("button", { type: "button", ariaLabel: `ask with the picture of ${item.text}` }, picture(item.id));
    const text = made("button", { type: "button", className: "words", textContent: item.text, title: item.text });
    image.onclick = () => ask(example(item, "image"));
    text.onclick = () => ask(example(item, "text"));
    return made("li", {}, image, text);
  }));
};

const choose = async () => {
  say("loading the run ...");
  try {
    about = await get(place("about"));
    await examples();
    say(Object.entries(about.sizes).map(([side, size]) => `${size.toLocaleString("en")} ${side}s`).join(" and ") + ` of ${about.source}`);
    if (last) await ask(last);
  } catch (error) {
    say(error.message, true);
  }
  document.documentElement.dataset.ready = at("index").value;
};

at("ask").onsubmit = (event) => {
  event.preventDefault();
  ask(words(at("text").value));
};
at("file").onchange = () => at("file").files[0] && askPicture(at("file").files[0]);
at("drop").onkeydown = (event) => ["Enter", " "].includes(event.key) && at("file").click();
for (const [name, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", over);
    if (name === "drop" && event.dataTransfer.files[0]) askPicture(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => event.clipboardData.files[0] && askPicture(event.clipboardData.files[0]));
at("more").onclick = () => { seed++; examples(); };
at("index").onchange = choose;
at("k").onchange = () => last && ask(last);

get("api/indexes").then((names) => {
  at("index").replaceChildren(...names.map((name) => made("option", { textContent: name })));
  const given = new URLSearchParams(location.search);  // a link may bring its query
  if (names.includes(given.get("index"))) at("index").value = given.get("index");
  if (given.has("text")) {
    at("text").value = given.get("text");
    last = words(given.get("text"));
  } else if (given.has("example")) {
    last = example({ id: given.get("example") }, given.get("side"));
  }
  return choose();
});
