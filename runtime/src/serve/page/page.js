
"use strict";

// What the page is told of: `observation` and `health` events. What it shows follows from the newest of each.

const at = (id) => document.getElementById(id);
const body = document.body;
const picture = at("picture");

const token = new URLSearchParams(location.search).get("token");
/** The address of a route, with the token that the page itself was asked for with. */
const route = (path, more = {}) => {
  const query = new URLSearchParams(token === null ? more : { token, ...more }).toString();
  return query ? `${path}?${query}` : path;
};

// Without any event for this long, in milliseconds, the connection is dead: the server sends a heartbeat more often.
const SILENCE = 12000;
const LONGEST_PAUSE = 5000;

let events = null;
let retry = null;
let pause = 500;
let heard = 0;
// The last few answers' times and counts: a slow page skips answers, the count of pictures does not.
let recent = [];

/** Writes a text only where it differs, so that screen readers are not told the same again. */
const write = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};
const percent = (score) => `${(100 * score).toFixed(score >= 0.9995 || score < 0.0005 ? 0 : 1)} %`;
const milliseconds = (value) => (value < 10 ? value.toFixed(1) : value.toFixed(0));
const count = new Intl.NumberFormat("en").format;

const STATES = {
  connecting: ["Connecting", "Connecting"],
  starting: ["Starting", "The camera is starting"],
  live: ["Live", ""],
  waiting: ["Waiting", "Waiting for the camera"],
  ended: ["Ended", "The source has ended"],
  unreachable: ["No connection", "The device does not answer"],
};

function setState(state, reason = "") {
  const [short, title] = STATES[state] ?? STATES.waiting;
  body.dataset.state = state;
  write(at("state-text"), short);
  write(at("notice-title"), title);
  write(at("notice-text"), reason.charAt(0).toUpperCase() + reason.slice(1));
  write(at("answer-title"), state === "live" || !recent.length ? "What it is" : "What it was last");
  if (state !== "live") document.title = `${short} · edge-vit`;
}

function rate(answer) {
  const newest = { time: answer.time, taken: answer.counts.taken };
  const last = recent.at(-1);
  if (last && (newest.time < last.time || newest.taken < last.taken)) recent = [];
  recent.push(newest);
  while (recent.length > 2 && newest.time - recent[0].time > 3) recent.shift();
  const seconds = newest.time - recent[0].time;
  return seconds > 0.5 ? (newest.taken - recent[0].taken) / seconds : null;
}

function showTop(answer) {
  const list = at("top");
  while (list.children.length > answer.top.length) list.lastChild.remove();
  while (list.children.length < answer.top.length) {
    const row = document.createElement("li");
    row.innerHTML = '<span class="name"></span><span class="share"></span><span class="bar" aria-hidden="true"><i></i></span>';
    list.append(row);
  }
  answer.top.forEach(({ label, score }, index) => {
    const [name, share, bar] = list.children[index].children;
    list.children[index].classList.toggle("chosen", answer.known && label === answer.label);
    write(name, label);
    write(share, percent(score));
    bar.firstChild.style.width = `${(100 * Math.min(1, Math.max(0, score))).toFixed(1)}%`;
  });
}

function showTimes(answer) {
  const { decode_ms: decode, prepare_ms: prepare, model_ms: model } = answer.stages;
  const stages = { wait: Math.max(0, answer.age_ms - decode - prepare - model), decode, prepare, model };
  const total = Object.values(stages).reduce((sum, stage) => sum + stage, 0) || 1;
  for (const [name, value] of Object.entries(stages)) {
    write(at(name), milliseconds(value));
    document.querySelector(`#stages .${name}`).style.width = `${((100 * value) / total).toFixed(1)}%`;
  }
  write(at("age"), milliseconds(answer.age_ms));
}

function showAnswer(answer) {
  body.dataset.known = answer.known ? "yes" : "no";
  write(at("label"), answer.known ? answer.label : "Unknown");
  write(at("remark"), answer.known ? `${percent(answer.score)} sure` : "None of the classes fits");
  write(at("source"), answer.source);
  at("source").title = answer.source;
  showTop(answer);
  showTimes(answer);
  const perSecond = rate(answer);
  write(at("rate"), perSecond === null ? "–" : perSecond.toFixed(1));
  for (const name of ["taken", "dropped", "damaged", "stalls", "reopened"]) write(at(name), count(answer.counts[name]));
  if (body.dataset.state === "live") document.title = `${at("label").textContent} · edge-vit`;
  fitView();
}

/** Gives the view the picture's own shape once the first one is there. */
function fitView() {
  if (!picture.naturalWidth) return;
  picture.hidden = false;
  const shape = `${picture.naturalWidth} / ${picture.naturalHeight}`;
  if (at("view").dataset.shape !== shape) {
    at("view").dataset.shape = shape;
    at("view").style.aspectRatio = shape;
  }
}

function startPicture() {
  // A new address each time: the browser would keep the stream that ended.
  picture.src = route("stream", { at: Date.now().toString(36) });
}

function disconnect() {
  clearTimeout(retry);
  events?.close();
  events = null;
}

function connect() {
  disconnect();
  heard = performance.now();
  events = new EventSource(route("events"));
  events.addEventListener("open", () => {
    pause = 500;
    startPicture();
  });
  events.addEventListener("health", (event) => {
    heard = performance.now();
    const { state, reason } = JSON.parse(event.data);
    setState(state, reason);
  });
  events.addEventListener("observation", (event) => {
    heard = performance.now();
    showAnswer(JSON.parse(event.data));
  });
  events.addEventListener("error", lost);
}

async function lost() {
  disconnect();
  retry = setTimeout(connect, pause);
  pause = Math.min(2 * pause, LONGEST_PAUSE);
  setState("unreachable", "It is asked again every few seconds.");
  try {
    const { status } = await fetch(route("events"), { method: "HEAD" });
    if (events) return;
    if (status === 401) setState("unreachable", "It does not take this page's token any more: open the page with the new one.");
    if (status === 503) setState("unreachable", "As many pages watch it as it serves: close another one.");
  } catch {
    // It does not answer at all, which is what the page says already.
  }
}

picture.addEventListener("load", fitView);
picture.addEventListener("error", () => {
  picture.hidden = true;
  setTimeout(() => events && startPicture(), 2000);
});
setInterval(() => events && performance.now() - heard > SILENCE && lost(), 1000);
// A page that nobody sees asks for nothing: the device makes no pictures for it.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    disconnect();
    picture.removeAttribute("src");
  } else {
    connect();
  }
});
if (!document.hidden) connect();
