// The page of the service: reads stats and activity, sends verdicts, deletions and searches.
// Whatever comes from the service is put into the page as text, never as markup.

const EVERY_MS = 5000;
const SAID_MS = 8000;
const KEY = "tiered-cache-key";
const SKIPPED = "tiered-cache-skipped";
const SVG = "http://www.w3.org/2000/svg";
const TOKEN = document.querySelector("meta[name=tiered-cache-token]").content;
const NO_CREDENTIAL = "e3b0c44298fc1c14"; // the digest of nothing
const ENOUGH = 20; // labels before a share of wrong answers says anything
const $ = (id) => document.getElementById(id);

let stats = null;
let activity = null;
let hours = 1;
let refreshing = null;
const recentRows = new Map(); // by pair and model: rows stay, so that focus and open answers do

// ------------------------------------------------------------------------------------- asking

class Refused extends Error {}

async function ask(path, { method = "GET", body } = {}) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.authorization = `Bearer ${key}`;
  if (method !== "GET") headers["x-tiered-cache-token"] = TOKEN;
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  } catch {
    throw new Error("The service does not answer. It is asked again every few seconds.");
  }
  const text = await response.text();
  let told = null;
  try { told = JSON.parse(text); } catch { /* told below by its status */ }
  if (response.status === 401 || response.status === 403) throw new Refused(reason(told) || "The key is not accepted.");
  if (!response.ok || told === null) throw new Error(`The service answered ${response.status}${reason(told) ? `: ${reason(told)}` : "."}`);
  return told;
}

function reason(told) {
  const said = told?.error?.message ?? told?.detail ?? "";
  return typeof said === "string" ? said : said.map?.((one) => one.msg).join("; ") ?? "";
}

function refresh() {
  refreshing ??= read().finally(() => { refreshing = null; });
  return refreshing;
}

// Show what an action changed: a reading that is under way may have begun before it.
async function renew() {
  await refreshing;
  await refresh();
}

async function read() {
  try {
    activity = await ask("v1/cache/activity");
    showNamespaces();
    stats = await ask(`v1/cache/stats?${new URLSearchParams({ namespace: $("namespace").value })}`);
  } catch (error) {
    if (error instanceof Refused) askForKey(error.message);
    else showError(error.message);
    return;
  }
  showError("");
  $("key-section").hidden = true;
  $("forget-key").hidden = !sessionStorage.getItem(KEY);
  $("updated").textContent = `as of ${new Date().toLocaleTimeString()}, ${plural(activity.workers, "worker")}`;
  show();
}

async function attempt(action) {
  try {
    await action();
  } catch (error) {
    if (error instanceof Refused) askForKey(error.message);
    else showError(error.message);
  }
}

function askForKey(why) {
  const asked = $("key-section");
  const first = asked.hidden;
  asked.hidden = false;
  $("content").hidden = $("empty").hidden = $("namespace-label").hidden = true;
  showError("");
  if (sessionStorage.getItem(KEY)) {
    sessionStorage.removeItem(KEY);
    $("key-note").textContent = why;
  }
  $("forget-key").hidden = true;
  if (first) $("key").focus();
}

function showError(message) {
  $("error").textContent = message;
  $("error").hidden = !message;
}

let saying;

function say(message) {
  $("status").textContent = message;
  $("status").classList.add("shown");
  clearTimeout(saying);
  saying = setTimeout(() => $("status").classList.remove("shown"), SAID_MS);
}

// ------------------------------------------------------------------------------------ numbers

const whole = (n) => Math.round(n).toLocaleString("en-US");
const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 2 : 1)}\u00a0%`;
const plural = (n, noun) => `${whole(n)} ${noun}${n === 1 ? "" : "s"}`;

function duration(seconds) {
  if (seconds < 1e-3) return `${(seconds * 1e6).toPrecision(3)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toPrecision(3)} ms`;
  return `${seconds.toPrecision(3)} s`;
}

function ago(time) {
  const seconds = Math.max(0, Date.now() / 1000 - time);
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86400)} days ago`;
}

const money = (dollars) => `$${dollars.toFixed(dollars !== 0 && dollars < 1 ? 4 : 2)}`;

const WHY = JSON.parse(document.querySelector("meta[name=tiered-cache-reasons]").content);
const FORMS = {
  hit_rate: percent, "rates_by_tier.exact": percent, "rates_by_tier.semantic": percent,
  error_per_hit: percent, "error_interval.0": percent, "error_interval.1": percent,
  money_saved: money, "policy.policy": String,
};
const ABSENT = { money_saved: "–", error_per_hit: "no estimate yet", "policy.policy": "–" };

function showFigures() {
  for (const element of document.querySelectorAll("[data-stat]")) {
    const path = element.dataset.stat;
    const value = path.split(".").reduce((held, name) => held?.[name], stats) ?? null;
    element.dataset.value = JSON.stringify(value);
    element.textContent = value === null ? ABSENT[path] ?? "0" : (FORMS[path] ?? whole)(value);
  }
  showMoney();
  showWrong();
  showUpstream();
  $("progress").textContent = progress();
  showPairs($("policy"), policyFacts());
  const errors = Object.entries(stats.errors);
  $("errors-total").textContent = whole(errors.reduce((sum, [, count]) => sum + count, 0));
  showPairs($("errors"), errors.map(([part, count]) => [part, whole(count)]));
  showPairs($("breakers"), Object.entries(stats.breakers).map(([part, state]) => [`${part} breaker`, state]));
  const open = Object.entries(stats.breakers).filter(([, state]) => state !== "closed").map(([part]) => part);
  $("health").hidden = false;
  const failing = stats.upstream.state !== "ok";
  const wrong = [...open.length ? [`goes on without: ${open.join(", ")}`] : [], ...failing ? ["the upstream fails"] : []];
  $("health").textContent = wrong.join("; ") || "all parts work";
  $("health").classList.toggle("bad", wrong.length > 0);
}

const sum = (amounts) => Object.values(amounts).reduce((all, one) => all + one, 0);

function showMoney() {
  const side = Object.entries(stats.side_calls).filter(([, one]) => one.asked);
  const spent = sum(stats.spent) + side.reduce((all, [, one]) => all + one.spent, 0);
  const saved = stats.money_saved;
  $("spent").textContent = money(spent);
  $("saved-share").textContent = saved === null || spent + saved === 0 ? "" : `(${percent(saved / (saved + spent))})`;
  $("money-note").textContent = saved === null ? "no price is known of what was saved" : "at list prices";
  showPairs($("by-tier"), Object.entries(stats.saved_by_tier).filter(([, dollars]) => dollars).map(([tier, dollars]) => [tier, `saved ${money(dollars)}`]));
  const models = [...new Set([...Object.keys(stats.saved), ...Object.keys(stats.spent)])];
  const dear = (model) => (stats.saved[model] ?? 0) + (stats.spent[model] ?? 0);
  models.sort((a, b) => dear(b) - dear(a));
  showPairs($("by-model"), models.slice(0, 4).map((model) => [model, `saved ${money(stats.saved[model] ?? 0)} of ${money(dear(model))}`]));
  const names = { verifier: "verifier", standalone: "follow-ups rewritten" };
  showPairs($("side-calls"), side.map(([part, one]) => [names[part] ?? part, `${whole(one.asked)}, cost ${money(one.spent)}, served ${whole(one.served)}`]));
}

// What was spent and saved, in as many columns as the chart of hit rates has.
function showTrend() {
  const { columns, starts } = inColumns(["spent", "saved"], { 0.25: 15, 1: 20, 6: 24, 24: 24 }[hours]);
  const totals = columns.map((one) => one.spent + one.saved);
  const most = Math.max(...totals);
  $("money-trend").hidden = $("money-legend").hidden = most === 0;
  $("money-span").textContent = `in the last ${span().replace(/^1 /, "")}`;
  if (most === 0) return;
  const [spent, saved] = ["spent", "saved"].map((what) => columns.reduce((all, one) => all + one[what], 0));
  const { svg, width } = canvas("money-trend", 44, `In the last ${span().replace(/^1 /, "")}: spent ${money(spent)}, saved ${money(saved)}`);
  const step = width / columns.length;
  columns.forEach((one, index) => {
    if (!totals[index]) return;
    const group = draw("g", {}, draw("title", {}, `${clock(starts[index])}: spent ${money(one.spent)}, saved ${money(one.saved)}`));
    let y = 42;
    for (const [what, colour] of [["spent", "volume"], ["saved", "semantic"]]) {
      const height = (one[what] / most) * 40;
      y -= height;
      if (height) group.append(draw("rect", { x: index * step + 1, y, width: Math.max(1, step - 2), height, class: `fill-${colour}` }));
    }
    svg.append(group);
  });
  svg.append(draw("line", { x1: 0, x2: width, y1: 43, y2: 43 }));
}

// Certain is what a whole interval says: all of it at most, or more than, what is allowed.
function showWrong() {
  const few = stats.labels < ENOUGH;
  const element = document.querySelector("[data-stat=error_per_hit]");
  const [low, high] = stats.error_interval;
  const most = stats.policy.max_error ?? 0.05;
  const verdict = few ? "" : high <= most ? "good" : low > most ? "bad" : "";
  if (few) element.textContent = "—";
  element.classList.toggle("unsure", !verdict);
  element.classList.toggle("good", verdict === "good");
  element.classList.toggle("bad", verdict === "bad");
  $("interval").hidden = few;
  const said = { good: `at most ${percent(most)}, 95\u00a0% sure`, bad: `more than ${percent(most)}, 95\u00a0% sure`, "": `not sure yet whether at most ${percent(most)}` };
  $("wrong-note").textContent = few ? `judge ${ENOUGH - stats.labels} to know` : said[verdict];
}

const STATES = { ok: "works", failing: "fails", down: "is down" };
const FAILED = ["server_error", "timeout", "unreachable", "cut", "rate_limited", "client_error"];

const latencies = ({ latency }) => (latency.p50 === undefined ? "" : ["p50", "p90", "p99"].map((name) => `${name} ${duration(latency[name])}`).join(", "));
const failures = ({ calls }) => FAILED.filter((kind) => calls[kind]).map((kind) => [kind.replaceAll("_", " "), whole(calls[kind])]);
const state = (one) => (sum(one.calls) ? STATES[one.state] : "not asked yet");

function showUpstream() {
  const all = sum(stats.upstream.calls);
  $("upstream").textContent = state(stats.upstream);
  $("upstream").classList.toggle("unsure", !all);
  $("upstream").classList.toggle("bad", all > 0 && stats.upstream.state !== "ok");
  $("upstream-latency").textContent = latencies(stats.upstream);
  showPairs($("upstream-calls"), [["calls", whole(all)], ...failures(stats.upstream)]);
  const each = Object.entries(stats.upstreams);
  $("upstreams").replaceChildren(...(each.length < 2 ? [] : each.map(([name, one]) => make("li", { "data-upstream": name }, make("b", {}, name),
    ` ${[state(one), plural(sum(one.calls), "call"), ...failures(one).map((pair) => pair.join(" ")), latencies(one)].filter(Boolean).join(", ")}`))));
}

function progress() {
  if (stats.progress) return `learning: ${stats.progress}`;
  if (stats.policy.policy === "exact") return "nothing is served by meaning";
  return "serves by meaning";
}

function policyFacts() {
  const policy = stats.policy;
  const facts = [];
  const add = (name, value, form = String) => value !== undefined && value !== null && facts.push([name, form(value)]);
  add("threshold", policy.threshold);
  add("serves from a chance of", policy.serves_from, percent);
  add("at most wrong", policy.max_error, (share) => `${percent(share)} per ${policy.per ?? "hit"}`);
  add("right", policy.right, whole);
  add("wrong", policy.wrong, whole);
  return facts;
}

function showPairs(parent, pairs) {
  parent.replaceChildren(...pairs.map(([name, value]) => make("span", {}, `${name} `, make("b", { "data-name": name }, value))));
}

// ------------------------------------------------------------------------------------- charts

function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.map((child) => (child instanceof Node ? child : document.createTextNode(String(child)))));
  return element;
}

function canvas(id, height, label) {
  const width = Math.max(220, $(id).clientWidth);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
  $(id).replaceChildren(svg);
  return { svg, width };
}

function gridLine(svg, y, left, right, text) {
  svg.append(draw("line", { x1: left, x2: right, y1: y, y2: y }));
  svg.append(draw("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, text));
}

const TIERS = ["exact", "semantic", "explore", "miss"];

const span = () => (hours < 1 ? `${60 * hours} minutes` : plural(hours, "hour"));

// Add up the minutes of the hours shown, in columns that end with the present one.
function inColumns(names, count) {
  const length = (hours * 3600) / count;
  const last = Math.floor(Date.now() / 1000 / length);
  const columns = Array.from({ length: count }, () => Object.fromEntries(names.map((name) => [name, 0])));
  for (const one of activity.minutes) {
    const column = columns[count - 1 - (last - Math.floor(one.time / length))];
    if (column) for (const name of names) column[name] += one[name];
  }
  return { columns, starts: columns.map((_, index) => (last - count + 1 + index) * length) };
}

function showRate() {
  const count = { 0.25: 15, 1: 60, 6: 72, 24: 96 }[hours];
  const { columns, starts } = inColumns(TIERS, count);
  const total = (column) => TIERS.reduce((sum, tier) => sum + column[tier], 0);
  const all = columns.map(total);
  const seen = all.reduce((sum, n) => sum + n, 0);
  const hits = columns.reduce((sum, column) => sum + column.exact + column.semantic, 0);
  const told = `${plural(seen, "lookup")} in ${span()}${seen ? `, ${percent(hits / seen)} of them hits` : ""}`;
  $("rate-note").textContent = told;

  const { svg, width } = canvas("rate", 220, `Hit rate by tier: ${told}`);
  const [left, right, top, bottom, floor] = [42, width - 4, 8, 150, 194];
  for (const share of [0, 0.5, 1]) gridLine(svg, bottom - share * (bottom - top), left, right, `${100 * share} %`);
  gridLine(svg, floor, left, right, "");
  const most = Math.max(1, ...all);
  svg.append(draw("text", { x: left - 6, y: 170, "text-anchor": "end" }, whole(most)));
  const step = (right - left) / count;
  columns.forEach((column, index) => {
    const n = all[index];
    if (!n) return;
    const bar = draw("g");
    const x = left + index * step + step * 0.1;
    let y = bottom;
    for (const tier of ["exact", "semantic"]) {
      const height = (column[tier] / n) * (bottom - top);
      y -= height;
      if (height) bar.append(draw("rect", { x, y, width: step * 0.8, height, class: `fill-${tier}` }));
    }
    const height = Math.max(1, (n / most) * 30);
    bar.append(draw("rect", { x, y: floor - height, width: step * 0.8, height, class: "fill-volume" }));
    bar.append(draw("title", {}, `${clock(starts[index])}: ${plural(n, "lookup")}, ${column.exact} exact, ${column.semantic} semantic, ${column.explore} explored, ${column.miss} missed`));
    svg.append(bar);
  });
  for (const share of [0, 0.5, 1]) {
    const anchor = { 0: "start", 0.5: "middle", 1: "end" }[share];
    const time = share === 1 ? "now" : clock(starts[Math.round(count * share)]);
    svg.append(draw("text", { x: left + share * (right - left), y: 212, "text-anchor": anchor }, time));
  }
}

function clock(time) {
  return new Date(time * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

function showSimilarities() {
  const kinds = [["hit", "semantic"], ["explore", "explore"], ["miss", "miss"]];
  const sums = {};
  let below = 0;
  for (const [kind] of kinds) {
    const { bins, below: less } = activity.similarity[kind];
    sums[kind] = bins.reduce((sum, n) => sum + n, less);
    below += less;
    $(`similarity-${kind}`).textContent = whole(sums[kind]);
  }
  const none = sum(sums) === 0;
  $("similarity-empty").hidden = !none;
  $("similarity").hidden = none;
  $("similarity-note").textContent = below ? `${whole(below)} below 0.5 not drawn` : "";
  const told = kinds.map(([kind]) => `${whole(sums[kind])} ${kind === "miss" ? "misses" : `${kind}s`}`).join(", ");
  const { svg, width } = canvas("similarity", 214, `Similarity of the nearest question: ${told}`);
  const [left, right, top, bottom] = [42, width - 4, 22, 184];
  const count = activity.similarity.hit.bins.length;
  const height = (index) => kinds.reduce((sum, [kind]) => sum + activity.similarity[kind].bins[index], 0);
  const most = Math.max(1, ...Array.from({ length: count }, (_, index) => height(index)));
  gridLine(svg, bottom, left, right, "0");
  gridLine(svg, top, left, right, whole(most));
  const step = (right - left) / count;
  for (let index = 0; index < count; index++) {
    if (!height(index)) continue;
    const bar = draw("g");
    let y = bottom;
    for (const [kind, colour] of kinds) {
      const n = activity.similarity[kind].bins[index];
      const tall = (n / most) * (bottom - top);
      y -= tall;
      if (n) bar.append(draw("rect", { x: left + index * step + 1, y, width: Math.max(1, step - 2), height: tall, class: `fill-${colour}` }));
    }
    const from = 0.5 + index / (2 * count);
    const each = kinds.map(([kind]) => `${activity.similarity[kind].bins[index]} ${kind}`).join(", ");
    bar.append(draw("title", {}, `${from.toFixed(3)} to ${(from + 1 / (2 * count)).toFixed(3)}: ${each}`));
    svg.append(bar);
  }
  const threshold = stats.policy.threshold;
  if (threshold >= 0.5) {
    const x = left + (threshold - 0.5) * 2 * (right - left);
    svg.append(draw("line", { x1: x, x2: x, y1: top, y2: bottom, class: "threshold" }, draw("title", {}, `threshold ${threshold}`)));
    svg.append(draw("text", { x, y: 12, "text-anchor": x > width / 2 ? "end" : "start", class: "threshold" }, `threshold ${threshold}`));
  }
  for (const mark of [0.5, 0.6, 0.7, 0.8, 0.9, 1]) {
    const anchor = mark === 1 ? "end" : mark === 0.5 ? "start" : "middle";
    svg.append(draw("text", { x: left + (mark - 0.5) * 2 * (right - left), y: 202, "text-anchor": anchor }, mark.toFixed(1)));
  }
}

function bar(share, colour) {
  return draw("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    draw("rect", { x: 0, y: 0, height: 10, width: Math.max(0.5, 100 * share), class: `fill-${colour}` }));
}

function showLatency() {
  const parts = { ...activity.parts, ...stats.latency };
  const rows = Object.entries(parts).filter(([, one]) => one.p99 !== undefined).sort((a, b) => b[1].p99 - a[1].p99);
  $("latency").hidden = rows.length === 0;
  $("latency-empty").hidden = rows.length > 0;
  const slowest = rows.length ? rows[0][1].p99 : 1;
  const least = 1e-6; // a scale of powers of ten: parts differ by a thousand
  const share = (seconds) => Math.log(Math.max(seconds, least) / least) / Math.log(Math.max(slowest, 2 * least) / least);
  $("latency").tBodies[0].replaceChildren(...rows.map(([part, one]) => make("tr", { "data-part": part },
    make("th", { scope: "row" }, part),
    ...["p50", "p90", "p99"].map((name) => make("td", { "data-value": one[name] }, duration(one[name]))),
    make("td", {}, bar(share(one.p99), TIERS.includes(part) ? part : "volume")))));
}

function showMisses() {
  const rows = Object.entries(stats.misses).sort((a, b) => b[1] - a[1]);
  const most = rows.length ? rows[0][1] : 1;
  $("misses").hidden = rows.length === 0;
  $("misses-empty").hidden = rows.length > 0;
  $("misses").tBodies[0].replaceChildren(...rows.flatMap(([why, count]) => [
    make("tr", { "data-reason": why }, make("th", { scope: "row" }, why.replaceAll("_", " ")), make("td", {}, whole(count)), make("td", {}, bar(count / most, "miss"))),
    ...why in WHY ? [make("tr", { class: "why" }, make("td", { colspan: 3, class: "quiet" }, WHY[why]))] : [],
  ]));
}

// ------------------------------------------------------------------------ served by meaning

function words(text) {
  return text.match(/\s+|[\p{L}\p{N}]+(?:['’.,-][\p{L}\p{N}]+)*|[^\s\p{L}\p{N}]/gu) ?? [];
}

// Mark in each text the words that the other has not, in order: a longest common subsequence.
function compared(one, other) {
  const [a, b] = [words(one), words(other)];
  const same = (i, j) => a[i].toLowerCase() === b[j].toLowerCase();
  const isWord = (text) => /[\p{L}\p{N}]/u.test(text);
  const best = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      best[i][j] = same(i, j) ? best[i + 1][j + 1] + 1 : Math.max(best[i + 1][j], best[i][j + 1]);
    }
  }
  const kept = [new Set(), new Set()];
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (same(i, j)) { kept[0].add(i++); kept[1].add(j++); }
    else if (best[i + 1][j] >= best[i][j + 1]) i++;
    else j++;
  }
  return [a, b].map((texts, side) => texts.map((text, index) =>
    kept[side].has(index) || !isWord(text) ? document.createTextNode(text) : make("mark", {}, text)));
}

// A pair that was asked of one model is one row, whatever its entries: with the least of their similarities.
function grouped(hits) {
  const groups = new Map();
  for (const hit of hits) { // the newest first
    const group = hit.asked === null || hit.stored === null ? hit.entry_id : JSON.stringify([hit.namespace, hit.model, hit.asked, hit.stored]);
    const known = groups.get(group);
    if (!known) groups.set(group, { ...hit, group });
    else {
      known.times += hit.times;
      known.similarity = Math.min(known.similarity, hit.similarity);
      known.verdict ??= hit.verdict;
    }
  }
  return [...groups.values()];
}

// Sort by risk as it was when a row came, so that no row moves away from who judges it: what nobody
// judged, what nobody skipped, what has the fewest labels on its stored question, what is least alike.
function ranked(hits) {
  const labels = (hit) => hits.filter((one) => one.verdict !== null && one.stored === hit.stored && one.model === hit.model).length;
  for (const hit of hits) {
    if (!ranks.has(hit.group)) ranks.set(hit.group, [Number(hit.verdict !== null), Number(skipped().has(hit.group)), labels(hit), hit.similarity]);
  }
  const byRank = (a, b) => a.map((value, index) => value - b[index]).find((difference) => difference !== 0) ?? 0;
  return hits.sort((a, b) => byRank(ranks.get(a.group), ranks.get(b.group)));
}

const ranks = new Map();

function skipped() {
  return new Set(JSON.parse(sessionStorage.getItem(SKIPPED) ?? "[]"));
}

function skip(row) {
  const latest = [...skipped().add(row.dataset.group)].slice(-200);
  sessionStorage.setItem(SKIPPED, JSON.stringify(latest));
  row.querySelector(".said").textContent = "skipped";
}

function recentRow(hit) {
  const row = make("tr", { "data-group": hit.group });
  const [asked, stored] = hit.asked !== null && hit.stored !== null
    ? compared(hit.asked, hit.stored) : [[hit.asked ?? "not recorded"], [hit.stored ?? (hit.asked === null ? "not recorded" : "no longer stored")]];
  const cell = (label, ...children) => make("td", { "data-label": label }, ...children);
  const answer = hit.answer === null ? [] : [make("details", {}, make("summary", {}, "Answer"), make("div", { class: "answer" }, hit.answer))];
  const times = make("div", { class: "quiet times" });
  const said = make("p", { class: "quiet said" });
  const model = hit.model ? [make("div", { class: "quiet model" }, hit.model)] : [];
  const buttons = [["Right", true], ["Wrong", false]].map(([name, correct]) => {
    const button = make("button", { type: "button", "aria-label": `${name}: ${hit.asked ?? hit.entry_id}` }, name);
    button.addEventListener("click", () => attempt(() => judge(row, row.dataset.entry, correct)));
    return button;
  });
  row.append(cell("Asked", ...asked), cell("Stored question", make("div", { class: "stored" }, ...stored), ...answer),
    cell("Similarity", hit.similarity.toFixed(3)), cell("Served", make("span", { class: "when" }), times, ...model),
    cell("Was it right?", make("div", { class: "verdict" }, ...buttons, said)));
  return row;
}

function updateRow(row, hit) {
  row.dataset.entry = hit.entry_id;
  row.querySelector(".when").textContent = ago(hit.time);
  row.querySelector(".times").textContent = hit.times > 1 ? plural(hit.times, "time") : "";
  if (hit.verdict !== null) markJudged(row, hit.verdict);
  else if (skipped().has(hit.group)) row.querySelector(".said").textContent = "skipped";
}

function markJudged(row, verdict) {
  row.dataset.verdict = verdict;
  row.querySelector(".said").textContent = `judged ${verdict}`;
  for (const button of row.querySelectorAll(".verdict button")) {
    // A disabled button would lose the focus, and the keyboard its place.
    button.setAttribute("aria-disabled", "true");
  }
}

async function judge(row, entryId, correct) {
  if (row.dataset.verdict) return;
  const verdict = correct ? "right" : "wrong";
  row.dataset.verdict = verdict;
  let told;
  try {
    told = await ask("v1/cache/feedback", { method: "POST", body: { entry_id: entryId, correct, source: "page" } });
  } catch (error) {
    delete row.dataset.verdict;
    throw error;
  }
  if (!told.taken) {
    delete row.dataset.verdict;
    say("The entry is gone: nothing can be learnt from it any more.");
    return;
  }
  markJudged(row, verdict);
  await renew();
  say(`Judged ${verdict}. There are ${plural(stats.labels, "label")} now.`);
}

function showRecent() {
  const hits = ranked(grouped(activity.recent));
  $("recent-how").hidden = hits.length === 0;
  $("recent").hidden = hits.length === 0;
  $("recent-empty").hidden = hits.length > 0;
  const body = $("recent").tBodies[0];
  const focused = document.activeElement;
  const wanted = hits.map((hit) => {
    if (!recentRows.has(hit.group)) recentRows.set(hit.group, recentRow(hit));
    updateRow(recentRows.get(hit.group), hit);
    return recentRows.get(hit.group);
  });
  for (const id of [...recentRows.keys()].filter((id) => !hits.some((hit) => hit.group === id))) recentRows.delete(id);
  if (wanted.length !== body.rows.length || wanted.some((row, index) => row !== body.rows[index])) {
    body.replaceChildren(...wanted);
    if (focused !== document.activeElement && document.contains(focused)) focused.focus({ preventScroll: true });
  }
}

// -------------------------------------------------------------------------------- the entries

async function search() {
  const by = document.querySelector("input[name=by]:checked").value;
  const namespace = $("namespace").value;
  const found = await ask(`v1/cache/entries?${new URLSearchParams({ query: $("query").value, by, namespace })}`);
  const looked = `${plural(found.entries.length, "entry").replace("entrys", "entries")} shown, ${whole(found.seen)} looked at`;
  $("found-note").textContent = found.complete ? `${looked}.` : `${looked}; there are more.`;
  $("found").hidden = found.entries.length === 0;
  $("found").tBodies[0].replaceChildren(...found.entries.map((entry) => foundRow(entry, namespace)));
}

function foundRow(entry, namespace) {
  const cell = (label, ...children) => make("td", { "data-label": label }, ...children);
  const remove = make("button", { type: "button", class: "danger", "aria-label": `Delete: ${entry.question}` }, "Delete");
  const near = entry.similarity === null ? [] : [make("div", { class: "quiet" }, `similarity ${entry.similarity.toFixed(3)}`)];
  const row = make("tr", { "data-entry": entry.entry_id }, cell("Question", entry.question, ...near), cell("Answer", entry.answer),
    cell("Model, tags", [entry.model, ...entry.tags].filter(Boolean).join(", ")), cell("Stored", ago(entry.created)), make("td", {}, remove));
  remove.addEventListener("click", () => attempt(async () => {
    if (!(await confirmed(`Delete this entry? ${entry.question}`))) return;
    const { removed } = await ask("v1/cache/invalidate", { method: "POST", body: { entry_id: entry.entry_id, namespace } });
    const next = (row.nextElementSibling ?? row.previousElementSibling)?.querySelector("button") ?? $("query");
    row.remove();
    next.focus();
    $("found-note").textContent = removed ? "Deleted." : "It was gone already.";
    await renew();
  }));
  return row;
}

async function invalidate() {
  const body = { namespace: $("namespace").value };
  const told = [];
  for (const [id, name] of [["tag", "with the tag"], ["model", "of the model"]]) {
    const value = $(id).value.trim();
    if (value) { body[id] = value; told.push(`${name} “${value}”`); }
  }
  if ($("age").value !== "") {
    body.older_than = Number($("age").value) * Number($("unit").value);
    told.push(`older than ${$("age").value} ${$("unit").selectedOptions[0].textContent}`);
  }
  if (!told.length) {
    $("invalidate-note").textContent = "Give a tag, a model or an age.";
    $("tag").focus();
    return;
  }
  if (!(await confirmed(`Delete all entries of ${body.namespace} ${told.join(", ")}?`))) return;
  const { removed } = await ask("v1/cache/invalidate", { method: "POST", body });
  $("invalidate-note").textContent = `${whole(removed)} deleted.`;
  await renew();
}

function confirmed(text) {
  const dialog = $("confirm");
  $("confirm-text").textContent = text;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

function showNamespaces() {
  $("namespace-label").hidden = false;
  const known = new Set([...$("namespace").options].map((one) => one.value));
  $("namespace").append(...activity.namespaces.filter((name) => !known.has(name)).map((name) => make("option", { value: name }, readable(name))));
}

// Without keys, a namespace ends in a digest of its callers' credential.
function readable(name) {
  const [, own, digest] = name.match(/^(.*):([0-9a-f]{16})$/) ?? [];
  if (!digest) return name;
  return digest === NO_CREDENTIAL ? `${own}, no credential` : `${own}, credential ${digest.slice(0, 4)}…`;
}

// ------------------------------------------------------------------------------------- begin

function show() {
  if (!stats || !activity || !$("key-section").hidden) return;
  if (!chosen && activity.minutes.length) {
    const oldest = Date.now() / 1000 - activity.minutes[0].time;
    choose([0.25, 1, 6, 24].find((one) => oldest <= 3600 * one) ?? 24);
    chosen = true;
  }
  const idle = stats.lookups === 0 && stats.stores === 0;
  $("empty").hidden = !idle;
  $("content").hidden = idle;
  if (idle) return;
  showFigures();
  showTrend();
  showRate();
  showSimilarities();
  showLatency();
  showMisses();
  showRecent();
}

// The time axis is as long as there is something to see, until somebody chooses another.
let chosen = false;

function choose(length) {
  hours = length;
  for (const one of document.querySelectorAll("[data-hours]")) one.setAttribute("aria-pressed", String(Number(one.dataset.hours) === length));
}

function submitted(form, action) {
  $(form).addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(action);
  });
}

const [base] = location.href.split(/[?#]/);
$("example-openai").textContent = `OpenAI(base_url="${new URL("v1", base)}")`;
$("example-anthropic").textContent = `Anthropic(base_url="${base.replace(/\/$/, "")}")`;
for (const button of document.querySelectorAll(".copy")) {
  const line = button.previousElementSibling;
  button.setAttribute("aria-label", `Copy ${line.textContent}`);
  button.addEventListener("click", () => attempt(async () => {
    await navigator.clipboard.writeText(line.textContent);
    say("Copied.");
  }));
}
// The file for tune: each pair once, and as different if any of its answers was judged wrong.
function download() {
  const pairs = new Map();
  for (const hit of activity.recent) {
    if (hit.verdict === null || hit.asked === null || hit.stored === null) continue;
    const pair = JSON.stringify([hit.asked, hit.stored]);
    const known = pairs.get(pair) ?? { question: hit.asked, cached: hit.stored, same: true, similarity: hit.similarity };
    pairs.set(pair, { ...known, same: known.same && hit.verdict === "right" });
  }
  const rows = [...pairs.values()].map((pair) => JSON.stringify(pair));
  if (!rows.length) return say("No pair is judged yet.");
  const url = URL.createObjectURL(new Blob([`${rows.join("\n")}\n`], { type: "application/jsonl" }));
  make("a", { href: url, download: "judged-pairs.jsonl" }).click();
  URL.revokeObjectURL(url);
  say(`${plural(rows.length, "pair")} for tiered-cache tune.`);
}

// y, n and s judge the row that has the focus, or else the first that nobody judged.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("content").hidden || $("confirm").open) return;
  if (event.target.closest("input, select, textarea") || !["y", "n", "s"].includes(event.key)) return;
  const rows = [...$("recent").tBodies[0].rows];
  const isOpen = (one) => !one.dataset.verdict && !skipped().has(one.dataset.group);
  const row = event.target.closest("#recent tbody tr") ?? rows.find(isOpen);
  if (!row) return;
  event.preventDefault();
  const next = rows.slice(rows.indexOf(row) + 1).find(isOpen) ?? row;
  if (event.key !== "s") attempt(() => judge(row, row.dataset.entry, event.key === "y"));
  else if (!row.dataset.verdict) skip(row);
  next.querySelector(".verdict button").focus();
});
$("export").addEventListener("click", download);
$("refresh").addEventListener("click", refresh);
$("namespace").addEventListener("change", refresh);
$("forget-key").addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  $("key-note").textContent = "The key is forgotten.";
  askForKey("");
});
submitted("key-form", async () => {
  sessionStorage.setItem(KEY, $("key").value);
  $("key").value = "";
  await renew();
  if ($("key-section").hidden) $("main").focus();
  else $("key").focus();
});
submitted("search", search);
submitted("invalidate", invalidate);
for (const button of document.querySelectorAll("[data-hours]")) {
  button.addEventListener("click", () => {
    chosen = true;
    choose(Number(button.dataset.hours));
    show();
  });
}
let drawn = 0;
new ResizeObserver(() => {
  if ($("main").clientWidth === drawn) return;
  drawn = $("main").clientWidth;
  requestAnimationFrame(show);
}).observe($("main"));
setInterval(() => {
  if (document.visibilityState === "visible" && $("key-section").hidden) refresh();
}, EVERY_MS);
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible" && $("key-section").hidden) refresh();
});
refresh();
