// What a person holds down, sent twenty times a second (it is also the sign of life); keys that work everywhere; what is
// spoken while a button is held; and the last episode's pictures.
(() => {
  const held = new Set();
  const find = (id) => document.getElementById(id);
  const writing = () => ["INPUT", "SELECT", "TEXTAREA"].includes(document.activeElement?.tagName);
  const tell = (name, value) => { if (window.socket?.connected) emitEvent(name, value); };
  const halt = () => { tell("halt", null); fetch("stop", { method: "POST" }); };
  window.tongsHalt = halt;
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.preventDefault(); halt(); return; }
    if (writing() || event.ctrlKey || event.altKey || event.metaKey) return;
    const key = event.key.toLowerCase(), focused = document.activeElement;
    if (focused?.id === "talk" && [" ", "enter"].includes(key)) { event.preventDefault(); if (!event.repeat) talk(); return; }
    if (key === "/") { event.preventDefault(); find("say").focus(); return; }
    if (key === "v" && find("talk")) { if (!event.repeat) talk(); return; }
    if (event.key === " " && focused?.tagName === "BUTTON") focused.blur();
    if (event.key === " " || key.startsWith("arrow") || key.startsWith("page")) event.preventDefault();
    if (!event.repeat) { held.add(key); tell("hotkey", key); }
  }, true);
  addEventListener("keyup", (event) => {
    const key = event.key.toLowerCase();
    held.delete(key);
    if (["v", " ", "enter"].includes(key)) hush();
  }, true);
  const release = () => { held.clear(); hush(); };
  addEventListener("blur", release);
  addEventListener("focusin", () => { if (writing()) release(); });
  document.addEventListener("visibilitychange", release);
  setInterval(() => {
    const pad = [...(navigator.getGamepads?.() ?? [])].find((one) => one?.connected && one.mapping === "standard");
    tell("held", {
      keys: [...held], axes: pad ? [...pad.axes] : null, buttons: pad ? pad.buttons.map((one) => one.pressed) : [],
    });
  }, 50);

  // --- push-to-talk
  const LONGEST = 15_000;
  let microphone = null, recorder = null, wanted = false, presses = 0, limit = 0;
  const base64 = (blob) => new Promise((done) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.readAsDataURL(blob);
  });
  async function talk() {
    if (wanted) return;
    wanted = true;
    const press = ++presses;
    try {
      if (!navigator.mediaDevices) throw new Error("a browser gives it to https and to localhost only; come through a tunnel");
      if (!microphone?.active) microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
      if (press !== presses) return;  // pressed again while the browser was asking; that one goes on
      if (!wanted) throw new Error("it was not ready yet; hold the button again");
      const parts = [], made = new MediaRecorder(microphone, { audioBitsPerSecond: 32_000 });
      made.ondataavailable = (event) => parts.push(event.data);
      made.onstop = async () => tell("spoken", { audio: await base64(new Blob(parts)) });
      made.start();
      recorder = made;
      find("talk").classList.add("on");
      limit = setTimeout(hush, LONGEST);
    } catch (error) {
      tell("spoken", { problem: error.message });
      hush();
    }
  }
  function hush() {
    if (!wanted) return;
    wanted = false;
    clearTimeout(limit);
    find("talk").classList.remove("on");
    recorder?.stop();
    recorder = null;
  }
  addEventListener("pointerdown", (event) => { if (event.target.closest?.("#talk")) talk(); });
  for (const end of ["pointerup", "pointercancel"]) addEventListener(end, hush);

  // --- the last episode
  let episode = 0, length = 0, live = true;
  window.tongsTimeline = (number, frames, marks) => {
    const bar = find("scrub");
    if (number !== episode) window.tongsLive();
    [episode, length] = [number, frames];
    bar.disabled = !frames;
    bar.max = Math.max(frames - 1, 0);
    if (live) bar.value = bar.max;
    find("marks").replaceChildren(...marks.map(([frame, kind, text]) => {
      const mark = document.createElement("i");
      [mark.className, mark.title] = [kind, `${kind}: ${text}`];
      mark.style.left = `${100 * Math.min(frame / Math.max(frames - 1, 1), 1)}%`;
      return mark;
    }));
  };
  const show = (frame) => {
    live = frame === null;
    find("live").hidden = live;
    for (const picture of document.querySelectorAll(".replayed")) {
      picture.hidden = live;
      if (live) picture.removeAttribute("src");
      else picture.src = `replay/${episode}/${frame}/${encodeURIComponent(picture.dataset.camera)}`;
    }
    tell("scrub", frame);
  };
  window.tongsLive = () => { show(null); find("scrub").value = find("scrub").max; };
  addEventListener("input", (event) => { if (event.target.id === "scrub") show(Number(event.target.value)); });
  addEventListener("pointerup", () => { if (document.activeElement?.id === "scrub") find("scrub").blur(); });
})();
