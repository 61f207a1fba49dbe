// Keeps the live page fresh: fetches what stands in <main> and puts it in place, without losing the reader's.
(() => {
  "use strict";
  const EVERY_MS = 10000;
  const PATIENCE_MS = 8000;
  const main = document.querySelector("main");
  const live = document.getElementById("live");
  let tag = null;
  let timer = 0;
  let busy = false;
  let lost = null;
  let fresh = new Date();

  const utc = (date) => date.toISOString().slice(11, 19) + " UTC";
  const say = (text, isLost) => {
    if (live.textContent !== text) live.textContent = text;
    live.classList.toggle("lost", isLost);
  };

  // Someone who is marking text to copy it must not lose the mark.
  const isMarking = () => {
    const marked = document.getSelection();
    return marked !== null && !marked.isCollapsed && main.contains(marked.anchorNode);
  };

  // Where an element is: its own id, or the nearest one above it and its place among what takes the focus there.
  const TAKERS = "a, summary, [tabindex]";
  const placeOf = (element) => {
    const home = element.closest("[id]");
    return home && { id: home.id, place: [...home.querySelectorAll(TAKERS)].indexOf(element) };
  };
  const find = (at) => {
    const home = at && document.getElementById(at.id);
    return home && (at.place < 0 ? home : home.querySelectorAll(TAKERS)[at.place]);
  };

  const replace = (text) => {
    const focused = main.contains(document.activeElement) ? placeOf(document.activeElement) : null;
    const open = new Map([...main.querySelectorAll("details[id]")].map((one) => [one.id, one.open]));
    const scrolled = [...main.querySelectorAll(".scroll[id], pre[id]")].map((one) => [one.id, one.scrollLeft, one.scrollTop]);
    // What the reader looks at stays where it is, even if something above it grew.
    const seen = [...main.querySelectorAll("section[id], tbody[id], details[id]")].find((one) => one.getBoundingClientRect().bottom > 0);
    const top = seen ? seen.getBoundingClientRect().top : 0;
    const atTop = window.scrollY === 0;

    main.innerHTML = text;

    for (const one of main.querySelectorAll("details[id]")) if (open.has(one.id)) one.open = open.get(one.id);
    for (const [id, left, down] of scrolled) {
      const one = document.getElementById(id);
      if (one) one.scrollTo({ left, top: down, behavior: "instant" });
    }
    const again = seen && document.getElementById(seen.id);
    if (again && !atTop) window.scrollBy({ top: again.getBoundingClientRect().top - top, behavior: "instant" });
    const target = find(focused);
    if (target) target.focus({ preventScroll: true });
    const titled = main.querySelector("[data-title]");
    if (titled) document.title = titled.dataset.title;
  };

  const refresh = async () => {
    clearTimeout(timer);
    if (document.hidden || busy) return;
    busy = true;
    try {
      const headers = tag === null ? {} : { "If-None-Match": tag };
      const answer = await fetch("fragment", { headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
      if (answer.status !== 304) {
        if (!answer.ok) throw new Error("status " + answer.status);
        const text = await answer.text();
        if (!isMarking()) {
          replace(text);
          tag = answer.headers.get("ETag");
        }
      }
      fresh = new Date();
      lost = null;
      say("Live, refreshed every 10 s", false);
    } catch {
      lost ??= new Date();
      say("Not reachable since " + utc(lost) + ". This is what was known at " + utc(fresh) + ".", true);
    } finally {
      busy = false;
      if (!document.hidden) timer = setTimeout(refresh, EVERY_MS);
    }
  };

  document.addEventListener("visibilitychange", refresh);
  window.addEventListener("online", refresh);
  timer = setTimeout(refresh, EVERY_MS);
})();
