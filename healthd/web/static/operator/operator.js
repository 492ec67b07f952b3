"use strict";
(() => {
  const root = document.documentElement;
  const page = () => document.getElementById("page");

  // Times, in the zone of whoever reads them.
  const at = new Intl.DateTimeFormat("en-GB", {
    year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short",
  });
  const near = new Intl.DateTimeFormat("en-GB", { weekday: "long", hour: "2-digit", minute: "2-digit" });
  const units = [["day", 86400], ["hour", 3600], ["minute", 60]];
  const inWords = (seconds) => {
    for (const [name, size] of units) {
      const count = Math.floor(seconds / size);
      if (count > 1) return `${count} ${name}s`;
      if (count === 1) return name === "hour" ? "an hour" : `a ${name}`;
    }
    return "";
  };
  const says = {
    at: (moment) => at.format(moment),
    day: (moment, age) => (age >= 0 && age < 6 * 86400 ? near : at).format(moment).replace(",", ""),
    ago: (moment, age) => {
      const span = inWords(Math.abs(age));
      if (!span) return age >= 0 ? "just now" : "in less than a minute";
      return age >= 0 ? `${span} ago` : `in ${span}`;
    },
  };
  // The daemon's clock counts, whatever this machine's says.
  let apart = 0;
  const setClock = () => { apart = new Date(page().dataset.now) - Date.now(); };
  const tellTimes = () => {
    for (const element of document.querySelectorAll("time[data-t]")) {
      const moment = new Date(element.dateTime);
      const text = says[element.dataset.t](moment, (Date.now() + apart - moment) / 1000);
      if (element.textContent !== text) element.textContent = text;
      element.title = at.format(moment);
    }
  };

  // What the script adds is not there without it.
  const dress = () => {
    setClock();
    tellTimes();
    for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
  };

  // Light or dark.
  const theme = document.getElementById("theme");
  const isDark = () =>
    (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const labelTheme = () => {
    theme.querySelector(".word").textContent = isDark() ? "Light" : "Dark";
    theme.title = isDark() ? "Use light colours" : "Use dark colours";
  };
  theme.hidden = false;
  labelTheme();
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("theme", root.dataset.theme);
    } catch {
      // Then it holds for this page.
    }
    labelTheme();
  });

  // Copying, menus, keys.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) {
      const field = document.getElementById(button.dataset.copy);
      field.select();
      navigator.clipboard?.writeText(field.value).then(() => { button.textContent = "Copied"; });
    }
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
  const pages = { o: "/", a: "/accounts", i: "/incidents", n: "/notices", c: "/contacts", w: "/workspaces" };
  let going = 0;
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      const menu = document.activeElement?.closest("details.menu[open]");
      if (menu) {
        menu.open = false;
        menu.querySelector("summary").focus();
      }
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    if (event.key === "/") {
      const search = document.getElementById("search");
      event.preventDefault();
      if (search) search.focus();
      else location.assign("/accounts#search");
    } else if (Date.now() - going < 1500 && pages[event.key]) {
      location.assign(pages[event.key]);
    }
    going = event.key === "g" ? Date.now() : 0;
  });
  if (location.hash === "#search") document.getElementById("search")?.focus();

  // An address that says what was done says it once: a reload is no second time.
  const said = new URL(location.href);
  if (said.searchParams.has("said")) {
    said.searchParams.delete("said");
    history.replaceState(history.state, "", said);
  }

  // Live: what has changed is asked for again, and only what differs is touched.
  const APART = 1000;
  let last = Date.now();
  let waiting = 0;
  let asking = false;
  const isBusy = () => {
    const focused = document.activeElement;
    return document.hidden || (page().contains(focused) && focused.matches("input, select, textarea"));
  };
  const refresh = async () => {
    waiting = 0;
    if (isBusy() || asking) {
      waiting = setTimeout(refresh, APART);
      return;
    }
    asking = true;
    last = Date.now();
    try {
      await htmx.ajax("GET", location.pathname + location.search, {
        source: page(), target: "#page", select: "#page", swap: "outerMorph",
      });
    } finally {
      asking = false;
    }
  };
  const ask = () => {
    waiting ||= setTimeout(refresh, Math.max(0, APART - (Date.now() - last)));
  };
  const shown = document.getElementById("live");
  const tell = (on) => {
    shown.hidden = false;
    shown.classList.toggle("off", !on);
    shown.querySelector(".word").textContent = on ? "Live" : "Not live";
    shown.title = on ? "What changes shows by itself" : "Reload the page to see what has changed";
  };
  const listen = () => {
    const stream = new EventSource("/live");
    stream.addEventListener("open", () => {
      if (shown.classList.contains("off")) ask();
      tell(true);
    });
    stream.addEventListener("changed", (event) => {
      const { accounts } = JSON.parse(event.data);
      const about = page().dataset.live;
      if (!accounts || about === "all" || accounts.includes(Number(about))) ask();
    });
    stream.addEventListener("error", () => {
      tell(false);
      if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 30000);
    });
    addEventListener("pagehide", () => stream.close(), { once: true });
  };
  addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
  setInterval(tellTimes, 20000);
  // What commands and other processes did is heard of by nobody here.
  setInterval(() => { if (!document.hidden) ask(); }, 60000);

  // What was asked for before a form was sent is out of date, and what is no page of ours must not take its place.
  let sent = 0;
  // A form that is no longer on the page speaks through the document.
  const isOfForm = (event) => (event.detail?.ctx?.sourceElement ?? event.target).tagName === "FORM";
  for (const moment of ["htmx:before:request", "htmx:after:request"]) {
    document.addEventListener(moment, (event) => { if (isOfForm(event)) sent = Date.now(); });
  }
  document.addEventListener("htmx:before:swap", (event) => {
    const { text, response } = event.detail.ctx;
    const isForm = isOfForm(event);
    const isPage = text.includes('id="page"');
    if (isPage && (isForm || (response.status === 200 && sent < last))) return;
    event.preventDefault();
    if (isForm) {
      const flash = document.getElementById("flash");
      flash.className = "flash bad";
      flash.textContent = `That did not work (${response.status}). Load the page again.`;
    } else {
      ask();
    }
  });
  document.addEventListener("htmx:after:swap", () => {
    dress();
    const flash = document.getElementById("flash");
    if (flash?.childElementCount && document.activeElement === document.body) flash.focus({ preventScroll: false });
  });
  dress();
  listen();
})();
