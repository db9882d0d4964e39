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

  // "/" searches, "g" and a letter goes to a page.
  let leader = 0;
  addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest("input, textarea, select")) return;
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
