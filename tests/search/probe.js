// Runs in the page that a test opens: uses it as a visitor does and leaves what it saw on the root element.
{
  const all = (selector) => [...document.querySelectorAll(selector)];
  const until = async (done) => { while (!done()) await new Promise((again) => setTimeout(again, 50)); };
  const answered = () => until(() => at("status").textContent.includes(" nearest of "));
  const use = async (act) => { say(""); act(); await answered(); };
  const hits = () => all("#hits li").map((hit) => hit.querySelector("p").textContent);
  const seen = {};
  (async () => {
    await until(() => document.documentElement.dataset.ready);
    seen.start = at("status").textContent;
    await use(() => { at("text").value = "<b>a fruit</b>"; at("ask").requestSubmit(); });
    seen.words = { asked: at("asked").innerHTML, hits: hits().length, pictures: all("#hits img").length, marks: all("#hits b").length };
    seen.scheme = [getComputedStyle(document.body).backgroundColor, matchMedia("(prefers-color-scheme: dark)").matches];
    await use(() => { at("k").value = "6"; at("k").dispatchEvent(new Event("change")); });
    seen.fewer = hits().length;
    await use(() => all("#examples .words")[0].click());
    seen.example = { text: all("#examples .words")[0].textContent, hits: hits(), marks: all("#hits li").map((hit) => hit.className) };
    await use(() => all("#examples li button:first-child")[0].click());
    seen.picture = { hits: hits(), images: all("#hits img").length, marks: all("#hits b").length };
    const blob = await (await fetch(place("picture", { id: new URL(all("#examples img")[0].src).searchParams.get("id") }))).blob();
    const given = new DataTransfer();
    given.items.add(new File([blob], "mine.webp"));
    await use(() => document.dispatchEvent(new DragEvent("drop", { dataTransfer: given, bubbles: true })));
    seen.dropped = { asked: at("asked").textContent, hits: hits(), marks: all("#hits b").length };
    await use(() => { at("index").selectedIndex = 1; at("index").dispatchEvent(new Event("change")); });
    seen.other = { unit: all("#hits small span")[0].textContent, asked: at("asked").textContent };
    say("");
    at("text").value = " ";
    at("ask").requestSubmit();
    await until(() => at("status").className === "error");
    seen.refused = at("status").textContent;
    await until(() => all("img").every((image) => image.complete));
    seen.broken = all("img").filter((image) => !image.naturalWidth).length;
    const named = (each) => each.textContent.trim() || each.ariaLabel || each.labels?.length;
    seen.unlabelled = all("button, select, input").filter((each) => !named(each)).length;
    seen.wide = document.documentElement.scrollWidth > innerWidth;
    document.documentElement.dataset.seen = JSON.stringify(seen);
  })();
}
