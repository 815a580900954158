// What all pages of the desk do: follow the jobs, take files that are dropped, draw waveforms, choose by keys.
"use strict";

const toast = document.getElementById("said-by-desk");
let toastTimer = 0;
function say(sentence) {
  toast.textContent = sentence;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { toast.textContent = ""; }, 8000);
}

const asked = Number(new URLSearchParams(location.search).get("asked"));  // the job that this page waits for

// ---- jobs: the server sends the list as it changes, and which clips have something new

const panel = document.getElementById("jobs");
const count = document.getElementById("jobs-count");
function counted() {
  const list = panel.querySelector(".joblist");
  const active = list ? Number(list.dataset.active) : 0;
  count.textContent = active || "";
}
counted();

if (window.EventSource) {
  const events = new EventSource(`/events?asked=${asked || 0}`);
  events.addEventListener("jobs", event => {
    const open = panel.contains(document.activeElement);
    if (open && document.activeElement.tagName === "BUTTON") return counted();  // nobody loses the button they are on
    panel.innerHTML = JSON.parse(event.data);
    htmx.process(panel);
    counted();
  });
  events.addEventListener("ended", event => {
    for (const job of JSON.parse(event.data)) {
      if (job.sentence) say(job.sentence);
      if (arrived(job)) return;
      const live = document.querySelector("[data-live]");
      if (live) htmx.ajax("GET", live.dataset.live, { target: live, swap: "innerHTML" });
    }
  });
}

// what somebody asked for on this page is there: on to it, or the page anew unless something plays
function arrived(job) {
  if (job.id === asked && !job.sentence && document.querySelector("[data-leads-on]")) {
    location.replace(job.page || location.pathname);
    return true;
  }
  const clip = document.querySelector("[data-clip]");
  if (!clip || clip.dataset.clip !== job.clip_id || job.sentence) return false;
  if ([...document.querySelectorAll("audio")].some(player => !player.paused)) {
    say("There is something new about this clip: open its page again to see it.");
    return false;
  }
  location.replace(job.page || location.pathname);
  return true;
}

document.body.addEventListener("htmx:responseError", event => say(event.detail.xhr.responseText.replace(/<[^>]*>/g, "").slice(0, 300)));
document.body.addEventListener("htmx:sendError", () => say("The desk does not answer: is it still running?"));

// ---- files that are dropped anywhere on a page with the form for them

const drop = document.querySelector("[data-drop]");
if (drop) {
  const input = drop.querySelector("input[type=file]");
  for (const name of ["dragover", "dragenter"]) addEventListener(name, event => { event.preventDefault(); drop.classList.add("over"); });
  addEventListener("dragleave", event => { if (!event.relatedTarget) drop.classList.remove("over"); });
  addEventListener("drop", event => {
    event.preventDefault();
    drop.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    drop.requestSubmit();
  });
  drop.addEventListener("submit", () => say("Sending…"));
}

// ---- waveforms of whole tracks

for (const box of document.querySelectorAll("[data-wave]")) {
  const audio = document.getElementById(box.dataset.wave);
  fetch(box.dataset.peaks).then(answer => answer.ok ? answer.json() : Promise.reject(answer)).then(found => {
    const style = getComputedStyle(document.documentElement);
    const regions = WaveSurfer.Regions.create();
    const wave = WaveSurfer.create({
      container: box, media: audio, peaks: [found.peaks], duration: found.seconds, height: 64, cspNonce: document.body.dataset.nonce,
      waveColor: style.getPropertyValue("--soft"), progressColor: style.getPropertyValue("--accent"), plugins: [regions],
    });
    wave.on("ready", () => {
      for (const mark of JSON.parse(box.dataset.marks || "[]")) {
        regions.addRegion({ start: mark.start, end: mark.end, content: mark.label, drag: false, resize: false, color: "rgba(180, 71, 46, .22)" });
      }
    });
    regions.on("region-clicked", (region, event) => { event.stopPropagation(); audio.currentTime = region.start; audio.play(); });
  }).catch(answer => { (answer.text ? answer.text() : Promise.resolve("The sound cannot be drawn.")).then(text => { box.textContent = text; }); });
}

// ---- players elsewhere than on a clip's page: one at a time, as loud as each other

if (!document.querySelector(".deck")) {
  const players = [...document.querySelectorAll("audio")];
  for (const player of players) {
    if (player.dataset.gain) player.volume = Number(player.dataset.gain);
    player.addEventListener("play", () => { for (const other of players) if (other !== player) other.pause(); });
  }
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    const keyed = document.querySelector(`[data-press="${CSS.escape(event.key)}"]`);
    if (!keyed) return;
    event.preventDefault();
    if (keyed.tagName !== "AUDIO") return keyed.click();
    if (keyed.paused) keyed.play(); else keyed.pause();
  });
}
