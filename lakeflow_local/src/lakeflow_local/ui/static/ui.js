// Loads what is live again while it is going on, and tells the change to screen readers.
const INTERVAL = 1000;
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

async function watch(part) {
  let failures = 0;
  while (part.querySelector("[data-going]")) {
    await wait(INTERVAL);
    if (document.hidden) continue;
    let answer;
    try {
      answer = await fetch(part.dataset.live);
    } catch {
      answer = { ok: false };
    }
    if (!answer.ok) {
      if (++failures === 5) return announce("The page is no longer kept current: the server has ended.", true);
      continue;
    }
    failures = 0;
    replace(part, await answer.text());
  }
}

function replace(part, html) {
  const before = part.querySelector("[data-state]");
  const next = new DOMParser().parseFromString(html, "text/html").body;
  if (before.outerHTML === next.firstElementChild.outerHTML) return;
  // Nobody's choice is taken out of their hands before the end.
  if (next.querySelector("[data-going]") && part.querySelector("form:focus-within")) return;
  // What is focused or scrolled stays so.
  const places = (root) => [...root.querySelectorAll("[tabindex], a, button")];
  const focused = places(part).indexOf(document.activeElement);
  const scrolled = places(part).map((item) => [item.scrollLeft, item.scrollTop]);
  const said = before.dataset.state;
  part.replaceChildren(...next.childNodes);
  places(part).forEach((item, index) => {
    if (scrolled[index]) [item.scrollLeft, item.scrollTop] = scrolled[index];
    if ("follow" in item.dataset) item.scrollTop = item.scrollHeight;
  });
  if (focused >= 0) places(part)[focused]?.focus({ preventScroll: true });
  const now = part.querySelector("[data-state]").dataset.state;
  if (now !== said) announce(now);
}

function announce(text, shown = false) {
  const place = document.getElementById("announcement");
  place.textContent = text;
  if (shown) place.className = "notice";
}

document.querySelectorAll("[data-live]").forEach(watch);
document.getElementById("text")?.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.target.form.requestSubmit();
});
