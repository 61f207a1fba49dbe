// What a test asks the page: each gives a list of complaints, empty if all is well.
const shown = (element) =>
  element.checkVisibility({ contentVisibilityAuto: true, visibilityProperty: true, opacityProperty: true });

// Every text that a person can see, with its element and the boxes of its lines.
const texts = () => {
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode;
    const element = node.parentElement;
    if (node.data.trim() === "" || !shown(element) || element.closest("title, desc, script, noscript")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const boxes = [...range.getClientRects()];
    if (element.closest(".clients thead") && getComputedStyle(element.closest(".clients thead")).position === "absolute") continue;
    found.push({ node, element, boxes });
  }
  return found;
};

const colour = (text) => {
  const parts = text.match(/[\d.]+/g).map(Number);
  return { r: parts[0], g: parts[1], b: parts[2], a: parts.length > 3 ? parts[3] : 1 };
};
const over = (top, below) => {
  const mix = (x, y) => x * top.a + y * (1 - top.a);
  return { r: mix(top.r, below.r), g: mix(top.g, below.g), b: mix(top.b, below.b), a: 1 };
};
const ground = (element) => {
  const layers = [];
  for (let one = element; one; one = one.parentElement) {
    const layer = colour(getComputedStyle(one).backgroundColor);
    if (layer.a > 0) layers.push(layer);
    if (layer.a === 1) break;
  }
  return layers.reverse().reduce((below, layer) => over(layer, below), { r: 255, g: 255, b: 255, a: 1 });
};
// WCAG 2.2, relative luminance and contrast ratio.
const luminance = ({ r, g, b }) => {
  const [x, y, z] = [r, g, b].map((one) => one / 255).map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const contrast = (a, b) => {
  const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (light + 0.05) / (dark + 0.05);
};

const probes = {
  contrast: (least) =>
    texts().flatMap(({ node, element }) => {
      const style = getComputedStyle(element);
      const below = ground(element);
      const ratio = contrast(over(colour(element instanceof SVGElement ? style.fill : style.color), below), below);
      return ratio < least ? [`${ratio.toFixed(2)}: ${node.data.trim().slice(0, 60)}`] : [];
    }),

  // Shapes carry meaning too: 3:1 against what they stand on (WCAG 2.2, 1.4.11).
  shapes: (least) => {
    const found = [];
    for (const one of document.querySelectorAll("pattern rect[class^=s], rect.covered, line.gap, line.since, .hole-line, .h2, .h3, .h4")) {
      const style = getComputedStyle(one);
      const paint = one.matches("line, path") ? style.stroke : style.fill;
      const below = one.closest("pattern") ? ground(document.querySelector("section")) : ground(one);
      const ratio = contrast(colour(paint), below);
      if (ratio < least) found.push(`${ratio.toFixed(2)}: ${one.outerHTML.slice(0, 80)}`);
    }
    return found;
  },

  // Nothing is wider than the screen, and no text stands outside of it or is cut off by its box.
  overflow: () => {
    const width = document.documentElement.clientWidth;
    const found = [];
    const page = document.scrollingElement.scrollWidth;
    if (page > width) found.push(`the page is ${page} wide, the screen ${width}`);
    for (const { node, element, boxes } of texts()) {
      if (boxes.length === 0 || boxes.every((box) => box.width === 0 || box.height === 0)) found.push(`not drawn: ${node.data.slice(0, 60)}`);
      const scroller = element.closest(".scroll, pre");
      if (scroller) continue;
      for (const box of boxes) {
        if (box.left < -0.5 || box.right > width + 0.5) found.push(`outside: ${node.data.slice(0, 60)}`);
      }
      for (let one = element; one !== document.body; one = one.parentElement) {
        if (one instanceof SVGElement) continue;
        const style = getComputedStyle(one);
        if (style.overflowX === "visible" && style.overflowY === "visible") continue;
        if (one.scrollWidth > one.clientWidth + 1 || one.scrollHeight > one.clientHeight + 1) found.push(`cut off: ${node.data.slice(0, 60)}`);
      }
    }
    return found;
  },

  // Texts that lie on one another.
  collisions: () => {
    const found = [];
    const lines = texts()
      .filter(({ element }) => !element.closest(".scroll, pre"))
      .flatMap(({ node, boxes }) => boxes.map((box) => ({ node, box })))
      .sort((a, b) => a.box.top - b.box.top);
    lines.forEach((one, place) => {
      for (const other of lines.slice(place + 1)) {
        if (other.box.top > one.box.bottom) break;
        const wide = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
        const high = Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top);
        if (one.node !== other.node && wide > 2 && high > 6) found.push(`${one.node.data.trim().slice(0, 40)} | ${other.node.data.trim().slice(0, 40)}`);
      }
    });
    return found;
  },

  // Structure that those need who cannot see the page.
  structure: () => {
    const found = [];
    const need = (is, text) => { if (!is) found.push(text); };
    need(document.documentElement.lang === "en", "no language");
    need(document.title !== "", "no title");
    need(document.querySelectorAll("main").length === 1, "one main");
    let level = 0;
    for (const one of document.querySelectorAll("h1, h2, h3, h4")) {
      const own = Number(one.tagName[1]);
      need(own <= level + 1, `heading out of order: ${one.textContent}`);
      level = own;
    }
    need(document.querySelectorAll("h1").length === 1, "one h1");
    for (const one of document.querySelectorAll("table")) {
      need(one.caption, "a table without a caption");
      need([...one.querySelectorAll("th")].every((head) => head.scope), "a heading of a table without a scope");
    }
    for (const one of document.querySelectorAll("svg:not([aria-hidden])")) {
      const labels = (one.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => document.getElementById(id)?.textContent);
      need(one.getAttribute("role") === "img" && (one.getAttribute("aria-label") || labels.every(Boolean)), "a drawing without words");
    }
    const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
    need(new Set(ids).size === ids.length, `an id is there twice: ${ids.filter((id, place) => ids.indexOf(id) !== place)}`);
    for (const one of document.querySelectorAll("[aria-labelledby]")) {
      for (const id of one.getAttribute("aria-labelledby").split(" ")) need(document.getElementById(id), `no ${id}`);
    }
    for (const one of document.querySelectorAll("a[href^='#']")) need(document.getElementById(one.hash.slice(1)), `no target ${one.hash}`);
    return found;
  },

  stops: () => [...document.querySelectorAll("a[href], summary, [tabindex='0']")].filter(shown),
};
