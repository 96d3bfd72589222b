// "Test now" with live progress: the same as the form does without a script, but the page stays.
"use strict";

const ASK_MS = 400;
const form = document.querySelector("[data-run]");

function say(lines) {
  const place = form.querySelector("[data-run-says]");
  place.replaceChildren(
    ...lines.map(({ text, bad }) => {
      const line = document.createElement("p");
      line.textContent = text;
      if (bad) line.className = "bad";
      return line;
    }),
  );
}

const number = (value, scale, unit, least) => (value === null ? "–" : `${(value / scale).toFixed(least)} ${unit}`);

function resultLine({ src, dst, rung, rtt_p50_us, loss_bp, error }) {
  if (error) return { text: `${src} → ${dst}: ${error}`, bad: true };
  return { text: `${src} → ${dst}: ${rung}, ${number(rtt_p50_us, 1000, "ms", 1)}, loss ${number(loss_bp, 100, "%", 2)}` };
}

function headers() {
  const token = document.querySelector('meta[name="csrf"]');
  return { "Content-Type": "application/json", Accept: "application/json", ...(token ? { "X-CSRF-Token": token.content } : {}) };
}

function refused(problem) {
  const told = [{ text: problem.title || "The server did not take it.", bad: true }];
  return problem.remedy ? [...told, { text: `Try: ${problem.remedy}` }] : told;
}

async function follow(run) {
  const began = Date.now();
  while (run.ended_us === null) {
    say([{ text: `Testing both directions for ${((Date.now() - began) / 1000).toFixed(1)} s …` }, ...run.results.map(resultLine)]);
    await new Promise((later) => setTimeout(later, ASK_MS));
    const answer = await fetch(`/v1/mesh/runs/${encodeURIComponent(run.id)}`, { headers: headers() });
    if (!answer.ok) return say(refused(await answer.json()));
    run = await answer.json();
  }
  say([{ text: `Done in ${((run.ended_us - run.started_us) / 1e6).toFixed(1)} s.` }, ...run.results.map(resultLine)]);
}

async function start(event) {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const body = JSON.stringify({ src: form.dataset.src, dst: form.dataset.dst });
    const answer = await fetch("/v1/mesh/runs", { method: "POST", headers: headers(), body });
    const told = await answer.json();
    if (answer.ok) await follow(told);
    else say(refused(told));
  } catch {
    say([{ text: "The server does not answer.", bad: true }]);
  } finally {
    button.disabled = false;
  }
}

if (form) form.addEventListener("submit", start);
