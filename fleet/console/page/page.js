const SVG = "http://www.w3.org/2000/svg";
const LINK_WORDS = "Is it still running? This page tries again by itself. A console that was started anew prints a new address.";
const SILENT_S = 15, RETRY_MS = 2000, ASKED_FOR_S = 90, LISTED = 40;
const body = document.body, token = body.dataset.token;
const mayDrain = body.dataset.mayDrain === "true", staleAfter = Number(body.dataset.staleAfter);
const get = (id) => document.getElementById(id);

let fleet = null, offset = 0, linked = false, heardAt = Date.now(), connectedAt = 0, newest = null, drawn = "";
const asked = new Map();  // instance id -> [what a person asked of it here, when]

const now = () => Date.now() / 1000 + offset;

// ---- the document: text only, never markup, since reasons are other people's words ----
function text(element, words) {
  if (element.textContent !== words) element.textContent = words;
}
function classes(element, words) {
  if (element.className !== words) element.className = words;
}
function make(tag, name, words) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (words !== undefined) element.textContent = words;
  return element;
}
function draw(tag, attributes, words) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (words !== undefined) element.textContent = words;
  return element;
}
/** Children of `parent` follow `items`; an element stays the same one, and keeps focus, while its key is there. */
function follow(parent, items, key, create, update) {
  const there = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let child = there.get(name);
    if (child) there.delete(name);
    else { child = create(item); child.dataset.key = name; }
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of there.values()) child.remove();
}

// ---- words that change by the second ----
function clock(at) { return new Date(at * 1000).toISOString().slice(11, 19); }
function age(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  return s < 172800 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} d`;
}
function sentences(...words) {
  return words.filter(Boolean).map((said) => (/[.?!]$/.test(said) ? said : `${said}.`)).join(" ");
}
function left(deadline) {
  const s = Math.ceil(deadline - now()), a = Math.abs(s);
  return `${s < 0 ? "over " : ""}${Math.floor(a / 60)}:${String(a % 60).padStart(2, "0")}`;
}

// ---- what is shown ----
function show() {
  const f = fleet;
  text(get("stack"), f.stack);
  for (const [name, figure] of Object.entries(f.figures)) showFigure(get(name), figure);
  get("unloaded").hidden = f.at !== null;
  follow(document.querySelector(".leavers"), f.leaving, (n) => n.id, makeLeaver, showLeaver);
  document.querySelector("#leaving .nothing").hidden = f.at === null || f.leaving.length > 0;
  follow(document.querySelector(".tiers"), f.tiers, (t) => t.name, makeTier, showTier);
  applyFilter();
  showEvents(f.events);
  tick();
}
function showFigure(place, figure) {
  classes(place, `figure ${figure.level}`);
  text(place.querySelector(".value"), figure.value);
  text(place.querySelector(".words"), figure.words);
  if ("share" in figure) place.querySelector(".bar span").style.setProperty("--share", `${figure.share}%`);
}
function makeLeaver(node) {
  const item = make("li", "leaver");
  const link = make("a", "id");
  link.href = `#node-${node.id}`;
  item.append(link, make("span", "countdown"), make("span", "small state"), make("span", "small quiet why"));
  return item;
}
function showLeaver(item, node) {
  text(item.querySelector(".id"), node.id);
  text(item.querySelector(".state"), `${node.tier}, ${node.zone}: ${node.words}, ${node.in_flight} in flight`);
  text(item.querySelector(".why"), node.why);
  countdown(item.querySelector(".countdown"), node.deadline);
}
function countdown(place, deadline) {
  if (deadline === null) { delete place.dataset.deadline; text(place, "no deadline"); }
  else { place.dataset.deadline = deadline; countOn(place); }
}
function countOn(place) {
  const deadline = Number(place.dataset.deadline);
  text(place, left(deadline));
  place.classList.toggle("over", deadline < now());
}
function makeTier(tier) {
  const section = make("section", "tier");
  const heading = make("h3", "", tier.name);
  heading.id = `tier-${tier.name}`;
  section.setAttribute("aria-labelledby", heading.id);
  section.append(heading, make("p", "capacity"), make("div", "zones"));
  return section;
}
function showTier(section, tier) {
  const line = section.querySelector(".capacity");
  const words = [tier.words, tier.image].filter(Boolean).join(" · ");
  if (line.dataset.words !== words + tier.short) {
    line.dataset.words = words + tier.short;
    line.replaceChildren(...(tier.short ? [make("span", "short", tier.short), " · "] : []), words);
  }
  follow(section.querySelector(".zones"), tier.zones, (z) => z.name, makeZone, showZone);
}
function makeZone() {
  const zone = make("div", "zone");
  zone.append(make("h4"), make("ul", "nodes"));
  return zone;
}
function showZone(place, zone) {
  text(place.firstElementChild, zone.name + (zone.nodes.length === 1 ? " · 1 node" : ` · ${zone.nodes.length} nodes`));
  follow(place.lastElementChild, zone.nodes, (n) => n.id, makeNode, showNode);
}
function makeNode(node) {
  const item = make("li", "node");
  item.id = `node-${node.id}`;
  const top = make("div", "top"), act = make("div", "act"), state = make("span", "chip");
  state.append(make("span", "icon"), " ", make("span", "words"));
  state.firstElementChild.setAttribute("aria-hidden", "true");
  top.append(state);
  if (mayDrain) {
    const button = make("button");
    button.type = "button";
    button.addEventListener("click", () => ask(item.dataset.key));
    act.append(button);
  }
  item.append(top, act, make("div", "id", node.id), make("div", "facts"), make("div", "why"));
  return item;
}
function showNode(item, node) {
  const wanted = pending(node);
  classes(item, `node ${node.state}`);
  const chip = item.querySelector(".chip");
  classes(chip, `chip ${wanted ? "asked" : node.state}`);
  text(chip.querySelector(".icon"), wanted ? "»" : node.icon);
  text(chip.querySelector(".words"), wanted || node.words);
  showFacts(item.querySelector(".facts"), node);
  const why = item.querySelector(".why");
  text(why, node.state === "leaving" ? node.why : "");
  why.hidden = !why.textContent;
  const button = item.querySelector("button");
  if (button) showButton(button, node, wanted);
  item.dataset.search = node.search;
}
function showFacts(place, node) {
  const facts = [["in flight ", node.in_flight], [node.option, ""], [node.type, ""], ["up ", age(now() - node.launched_at)], [node.address, ""], ["", node.stale]];
  follow(place, facts.map((fact, index) => [String(index), ...fact]), (f) => f[0], () => {
    const fact = make("span");
    fact.append("", make("b"));
    return fact;
  }, (fact, [, before, value]) => {
    if (fact.firstChild.data !== before) fact.firstChild.data = before;
    text(fact.lastElementChild, value);
  });
}
function showButton(button, node, wanted) {
  button.hidden = !node.act;
  // Not `disabled`, which would take the focus away from who has just asked.
  button.setAttribute("aria-disabled", String(Boolean(wanted)));
  text(button, node.act === "undrain" ? "Undrain…" : "Drain…");
  button.setAttribute("aria-label", `${node.act === "undrain" ? "Undrain" : "Drain"} ${node.id}`);
}
/** What was asked of the node here and does not show yet. */
function pending(node) {
  const entry = asked.get(node.id);
  if (!entry) return "";
  const [act, at] = entry;
  const done = act === "drain" ? node.state === "leaving" : node.state !== "leaving";
  if (done || now() - at > ASKED_FOR_S) { asked.delete(node.id); return ""; }
  return `${act} asked for`;
}
function applyFilter() {
  const words = get("filter").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const node of document.querySelectorAll(".node")) {
    node.hidden = !words.every((word) => node.dataset.search.includes(word));
    if (!node.hidden) shown += 1;
  }
  for (const zone of document.querySelectorAll(".zone")) zone.hidden = !zone.querySelector(".node:not([hidden])");
  get("none-match").hidden = !words.length || shown > 0;
}
function showEvents(events) {
  const fresh = newest === null ? [] : events.filter((e) => e.number > newest);
  newest = Math.max(newest ?? 0, ...events.map((e) => e.number));
  follow(document.querySelector(".events"), events.slice(0, LISTED), (e) => String(e.number), (event) => {
    const item = make("li", `event ${event.kind}`), time = make("time", "", clock(event.at)), words = make("span", "words");
    time.dateTime = new Date(event.at * 1000).toISOString();
    if (event.instance_id) words.append(make("span", "id", event.instance_id), event.tier ? ` (${event.tier}) ` : " ");
    words.append(event.words);
    item.append(time, words);
    return item;
  }, (item, event) => item.classList.toggle("new", now() - event.at < 10));
  const told = fresh.filter((e) => e.kind === "notice" || e.kind === "failed");
  if (told.length > 3) say(`${told.length} notices, the last for ${told[0].instance_id}`);
  else if (told.length) say(told.map((e) => [e.instance_id, e.words].filter(Boolean).join(": ")).join(". "));
}
function say(words) { get("said").textContent = words; }

// ---- once a second ----
function tick() {
  banners();
  if (!fleet) return;
  for (const place of document.querySelectorAll(".countdown[data-deadline]")) countOn(place);
  drawTimeline();
  title();
}
function title() {
  const lost = fleet.figures.lost, leaving = fleet.leaving.length;
  const news = lost.level === "bad" ? `✕ ${lost.value} lost · ` : troubled() ? "! stale · " : leaving ? `▼ ${leaving} leaving · ` : "";
  const wanted = `${news}${fleet.stack} · goldenfleet`;
  if (document.title !== wanted) document.title = wanted;
}
function troubled() { return get("banners").childElementCount > 0; }
function banners() {
  const list = [], silent = (Date.now() - heardAt) / 1000, at = fleet ? fleet.at : null, old = at === null ? 0 : now() - at;
  if ((!linked && silent > 3) || silent > SILENT_S) list.push({ key: "link", head: "No word from the console", since: silent, words: LINK_WORDS });
  for (const f of fleet ? fleet.failures : []) list.push({ key: f.part, head: f.words, since: now() - f.since, words: failureWords(f, at) });
  const settled = (Date.now() - connectedAt) / 1000 > staleAfter;
  if (linked && settled && old > staleAfter && !list.some((b) => b.key === "fleet")) {
    list.push({ key: "fleet", head: "AWS has not answered", since: old, words: "What you see is as old." });
  }
  follow(get("banners"), list, (b) => b.key, () => {
    const banner = make("div", "banner"), head = make("strong"), since = make("span");
    // The seconds count on: to a screen reader the trouble is news, and its age is not.
    since.setAttribute("aria-hidden", "true");
    head.append(make("span"), since);
    banner.append(head, make("span"));
    return banner;
  }, (banner, b) => {
    const [head, since] = banner.firstElementChild.children;
    text(head, b.head);
    text(since, ` for ${age(b.since)}`);
    text(banner.lastElementChild, b.words);
  });
  showLink(old, list.length > 0);
}
function failureWords(failure, at) {
  const known = failure.part !== "fleet" ? "" : at === null ? "Nothing is known of the fleet yet." : `What you see is of ${clock(at)} UTC.`;
  return sentences(known, failure.message, failure.hint);
}
function showLink(old, trouble) {
  const link = get("link");
  if (!linked) { classes(link, "chip bad"); text(link.firstElementChild, "✕"); text(link.lastElementChild, "not connected"); return; }
  classes(link, trouble ? "chip warn" : "chip ok");
  text(link.firstElementChild, trouble ? "!" : "●");
  text(link.lastElementChild, fleet && fleet.at !== null ? `${clock(fleet.at)} UTC${trouble ? `, ${age(old)} old` : ""}` : "asking AWS");
}

// ---- drains ----
let target = null, came = null;
function nodeOf(id) {
  for (const tier of fleet.tiers) for (const zone of tier.zones) for (const node of zone.nodes) if (node.id === id) return { node, tier };
  return null;
}
function ask(id) {
  const found = nodeOf(id);
  if (!found || pending(found.node)) return;
  const { node, tier } = found, drain = node.act !== "undrain";
  target = { id, act: drain ? "drain" : "undrain" };
  came = document.activeElement;
  text(get("ask-heading"), `${drain ? "Drain" : "Undrain"} ${id}?`);
  text(get("ask-words"), drain
    ? "It leaves the load balancer, finishes or hands over what runs, and is replaced."
    : "It takes requests again, if AWS itself is not taking it away.");
  const facts = [["Tier", tier.name], ["Zone", node.zone], ["Instance", `${node.type}, ${node.option}, ${node.address}`], ["State", node.words], ["In flight", node.in_flight]];
  if (drain) facts.push(["Then serving", `${node.serving_after} of ${tier.desired} in ${tier.name}`]);
  get("ask-facts").replaceChildren(...facts.flatMap(([name, value]) => [make("dt", "", name), make("dd", "", value)]));
  const warn = drain && node.serving_after === 0;
  get("ask-warning").hidden = !warn;
  text(get("ask-warning"), warn ? `No other node of ${tier.name} serves: clients will notice.` : "");
  get("ask-fields").hidden = !drain;
  get("ask-reason").required = drain;
  get("ask-failure").hidden = true;
  get("ask-do").disabled = false;
  text(get("ask-do"), `${drain ? "Drain" : "Undrain"} ${id}`);
  get("ask").showModal();
  (drain ? get("ask-reason") : get("ask-cancel")).focus();
}
async function carryOut() {
  const { id, act } = target, reason = get("ask-reason").value.trim();
  const order = act === "drain" ? { instance_id: id, reason, deadline_s: Number(get("ask-deadline").value) } : { instance_id: id };
  get("ask-do").disabled = true;
  const failure = await post(`/${act}`, order);
  get("ask-do").disabled = false;
  if (failure) {
    text(get("ask-failure"), failure);
    get("ask-failure").hidden = false;
    return;
  }
  asked.set(id, [act, now()]);
  get("ask").close();
  say(`${act === "drain" ? "Drain" : "Undrain"} of ${id} asked for`);
  show();
}
/** Why it was refused, or nothing. */
async function post(path, order) {
  try {
    const answer = await fetch(path, {
      method: "POST", headers: { "content-type": "application/json", "x-goldenfleet-token": token },
      body: JSON.stringify(order), signal: AbortSignal.timeout(30000),
    });
    if (answer.ok) return "";
    const said = await answer.json().catch(() => null);
    return said && said.error ? sentences(said.error.message, said.error.hint) : `The console answered ${answer.status}.`;
  } catch (error) {
    return error.name === "TimeoutError" ? "No answer in 30 s; look at the notices whether it was taken." : "The console does not answer; nothing is known of the drain.";
  }
}

// ---- the link to the console ----
// A browser opens six connections to it at most, of all tabs together. So one tab listens and tells the others: with
// a stream for each, a seventh tab would not load, and no drain would leave the browser.
const tabs = new BroadcastChannel(body.dataset.start), last = new Map();  // kind -> what this tab heard last itself
function connect() {
  const source = new EventSource("/events");
  const tell = (kind, data) => {
    last.set(kind, data);
    tabs.postMessage([kind, data]);
    hear(kind, data);
  };
  source.addEventListener("clock", (event) => tell("clock", JSON.parse(event.data).now - Date.now() / 1000));
  source.addEventListener("fleet", (event) => tell("fleet", event.data));
  source.addEventListener("error", () => {
    tell("lost");
    // Closed for good means refused, by a console that was started anew or has too many viewers.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, RETRY_MS);
  });
}
function hear(kind, data) {
  const before = linked;
  linked = kind !== "lost";
  if (linked) {
    last.delete("lost");
    heardAt = Date.now();
    if (!before) connectedAt = heardAt;
  }
  if (kind === "clock") offset = data;
  if (kind !== "fleet") { tick(); return; }
  fleet = JSON.parse(data);
  show();
}
tabs.addEventListener("message", ({ data: [kind, data] }) => {
  if (kind !== "hello") hear(kind, data);
  else for (const said of last) tabs.postMessage(said);
});

get("filter").addEventListener("input", applyFilter);
get("window").addEventListener("change", () => fleet && drawTimeline());
new ResizeObserver(() => fleet && drawTimeline()).observe(get("timeline"));
get("ask-cancel").addEventListener("click", () => get("ask").close());
get("ask").addEventListener("close", () => came && came.isConnected && came.focus());
get("ask").firstElementChild.addEventListener("submit", (event) => { event.preventDefault(); carryOut(); });
// The key is in a cookie now: it need not stay in the address, in the history and on screenshots.
if (location.search) history.replaceState(null, "", location.pathname + location.hash);
setInterval(tick, 500);
tabs.postMessage(["hello"]);
// Held until this tab is closed; then the next one has it.
navigator.locks.request(body.dataset.start, () => { connect(); return new Promise(() => {}); });
