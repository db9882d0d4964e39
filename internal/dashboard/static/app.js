// Comforts. Every page works without them.
"use strict";
(() => {
  const say = (text) => { document.getElementById("said").textContent = text; };

  for (const b of document.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) break;
    b.hidden = false;
    b.addEventListener("click", async () => {
      const before = b.innerHTML;
      try {
        await navigator.clipboard.writeText(b.dataset.copy);
        b.textContent = "Copied";
        say("Copied");
      } catch {
        b.textContent = "Not copied";
        say("The browser did not allow to copy");
      }
      setTimeout(() => { b.innerHTML = before; }, 2000);
    });
  }

  // A second click must not send a form twice. Back in the browser it can be sent again.
  for (const f of document.querySelectorAll("form")) {
    f.addEventListener("submit", (e) => {
      if (f.dataset.sent) e.preventDefault();
      f.dataset.sent = "1";
    });
  }
  addEventListener("pageshow", () => {
    for (const f of document.querySelectorAll("form[data-sent]")) delete f.dataset.sent;
  });

  // Lists that grow can be kept up to date, for ten minutes after the button. Who wants
  // little motion gets none by itself.
  const live = document.querySelector("[data-refresh]");
  if (live && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
    let timer = 0, left = 0;
    const stop = () => {
      clearInterval(timer);
      timer = 0;
      live.setAttribute("aria-pressed", "false");
    };
    const refresh = async () => {
      if (document.hidden) return;
      if (left-- <= 0) { stop(); return; }
      const answer = await fetch(location.href).catch(() => null);
      if (!answer || !answer.ok || answer.redirected) { stop(); return; }
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const from = page.querySelector("[data-live]"), to = document.querySelector("[data-live]");
      if (from && to && !to.contains(document.activeElement)) to.replaceWith(from);
    };
    live.hidden = false;
    live.addEventListener("click", () => {
      if (timer) { stop(); return; }
      left = 120;
      timer = setInterval(refresh, 5000);
      live.setAttribute("aria-pressed", "true");
      refresh();
    });
  }

  // "/" searches, "g" and a letter goes to a page.
  let leader = 0;
  addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest("input, select")) return;
    if (e.key === "/") {
      const search = document.getElementById("search");
      if (search) { e.preventDefault(); search.focus(); search.select(); }
    } else if (e.key === "g") {
      leader = e.timeStamp;
      return;
    } else if (leader && e.timeStamp - leader < 1500 && /^[a-z]$/.test(e.key)) {
      const link = document.querySelector(`[data-go="${e.key}"]`);
      if (link) { e.preventDefault(); link.click(); }
    }
    leader = 0;
  });
})();
