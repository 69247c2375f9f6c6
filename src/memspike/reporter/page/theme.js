// The remembered theme, before anything is painted. Storage may be refused (file://, private windows): then the system's theme stands.
(function () {
  "use strict";
  try {
    const theme = window.localStorage.getItem("memspike-theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch (refused) { /* no storage, no memory */ }
})();
