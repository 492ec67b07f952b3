// Keeps an open page true: asks how the account does, and puts the new page in place of the old one when that changes.
(() => {
  const EVERY = 2000;
  const BUSY_FOR = 10000;
  const enough = Date.now() + 15 * 60 * 1000;
  const main = document.querySelector("main");
  // A new tab lets this page stay and watch. Only where there is a mouse: the browsers inside phones' mail apps may
  // drop a new tab without a word, and then the button would seem dead.
  const tabs = matchMedia("(hover: hover) and (pointer: fine)").matches;
  const card = () => main.querySelector(".card");
  let timer = 0;
  let looking = false;

  async function look() {
    clearTimeout(timer);
    if (looking || document.hidden || !card().dataset.stateAt) return;
    looking = true;
    try {
      const answer = await ask(card().dataset.stateAt);
      if (answer.ok && states(await answer.json()) !== card().dataset.state) await renew();
    } catch {
      // Offline for a moment: the next look will tell.
    }
    looking = false;
    if (Date.now() < enough) timer = setTimeout(look, EVERY);
  }

  function states(said) {
    return said.incidents ? said.incidents.map((one) => one.state).join(" ") : said.state;
  }

  function ask(address) {
    return fetch(address, { cache: "no-store", signal: AbortSignal.timeout?.(15000) });
  }

  async function renew() {
    const answer = await ask(location.pathname);
    if (!answer.ok && answer.status !== 410) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const held = main.contains(document.activeElement);
    main.replaceChildren(...page.querySelector("main").childNodes);
    document.title = page.title;
    prepare();
    if (held) main.querySelector("h1").focus();
  }

  function prepare() {
    const refusal = "refusal" in card().dataset;
    // The answer to a press: coming back to it, or loading it again, must not press again.
    if (refusal) history.replaceState(null, "", location.href);
    for (const words of main.querySelectorAll("[data-beside]")) words.hidden = refusal || !tabs;
    for (const form of main.querySelectorAll("form")) {
      if (tabs && !refusal && !("here" in form.dataset)) form.target = "_blank";
      form.addEventListener("submit", () => {
        form.classList.add("busy");
        setTimeout(rest, BUSY_FOR);
      });
    }
    countDown(main.querySelector("[data-wait]"));
  }

  function countDown(button) {
    if (!button) return;
    const words = button.textContent;
    const ends = Date.now() + button.dataset.wait * 1000;
    const tick = () => {
      const left = Math.ceil((ends - Date.now()) / 1000);
      button.disabled = left > 0;
      button.textContent = left > 0 ? `${words} in ${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}` : words;
      if (left > 0) setTimeout(tick, 500);
    };
    tick();
  }

  function rest() {
    for (const form of main.querySelectorAll("form.busy")) form.classList.remove("busy");
  }

  prepare();
  document.addEventListener("visibilitychange", look);
  addEventListener("online", look);
  addEventListener("pageshow", (event) => {
    rest();
    if (event.persisted) look();
  });
  timer = setTimeout(look, EVERY);
})();
