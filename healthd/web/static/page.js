// Makes the page live: it asks how the account does, and loads itself again when the answer has changed.
(() => {
  const card = document.querySelector("[data-state-at]");
  if (!card) return;
  const shown = card.dataset.page;
  const EVERY = 3000;
  const ENDS = Date.now() + 15 * 60 * 1000;
  let timer = 0;

  async function look() {
    clearTimeout(timer);
    if (document.hidden || Date.now() > ENDS) return;
    try {
      const answer = await fetch(card.dataset.stateAt, { cache: "no-store", credentials: "omit" });
      if (answer.ok && (await answer.json()).state !== shown) {
        location.reload();
        return;
      }
    } catch {
      // Offline for a moment: the next look will tell.
    }
    timer = setTimeout(look, EVERY);
  }

  // The provider's page opens beside this one, which goes on watching.
  card.querySelector("form").target = "_blank";
  document.addEventListener("visibilitychange", look);
  timer = setTimeout(look, EVERY);
})();
