"use strict";
(() => {
  const element = (id) => document.getElementById(id);
  const answer = element("answer");

  // The library, compiled to WebAssembly. It stands in the page itself, so that the page works from a file.
  let compiled, library;
  const start = () => {
    library = new WebAssembly.Instance(compiled, {}).exports;
  };
  // Hands over text, processor and options; takes the answer, which is JSON.
  const ask = (bytes, question) => {
    const options = new TextEncoder().encode(JSON.stringify(question));
    const at = library.input(bytes.length + options.length);
    const input = new Uint8Array(library.memory.buffer, at, bytes.length + options.length);
    input.set(bytes);
    input.set(options, bytes.length);
    const length = library.explain(bytes.length);
    const output = new Uint8Array(library.memory.buffer, library.output(), length);
    return JSON.parse(new TextDecoder().decode(output));
  };

  // Text with the names of checks as links to their rules.
  const linked = (parent, text) => {
    for (const part of text.split(/([a-z0-9]+(?:[.-][A-Za-z0-9]+)+)/)) {
      const rule = part.includes(".") && document.getElementById(part);
      if (rule && rule.tagName === "DT") {
        const link = parent.appendChild(document.createElement("a"));
        link.href = `#${part}`;
        link.textContent = part;
      } else {
        parent.append(part);
      }
    }
    return parent;
  };
  const add = (parent, name, text) => linked(parent.appendChild(document.createElement(name)), text);

  const show = (result) => {
    answer.replaceChildren();
    if (result.error) {
      add(answer.appendChild(document.createElement("article")), "p", result.error);
    }
    for (const { status, sections } of result.answers ?? []) {
      const article = answer.appendChild(document.createElement("article"));
      article.className = { 0: "healthy", 1: "violated" }[status] ?? "unexplained";
      sections.forEach((section, index) => {
        if (section.paragraph !== undefined) {
          add(article, index === 0 ? "h2" : "p", section.paragraph);
          return;
        }
        add(article, "h3", section.heading);
        const list = article.appendChild(document.createElement("ul"));
        for (const { title, lines } of section.points) {
          const item = add(list, "li", title);
          lines.forEach((line) => add(item, "div", line));
        }
      });
    }
  };

  // What was dropped or chosen: it may be compressed, so that its bytes are explained, not its text.
  let file = null;
  const explain = (focus) => {
    const bytes = file ?? new TextEncoder().encode(element("text").value);
    const question = {
      processor: element("processor").value.trim(),
      verbose: element("verbose").checked,
      fix: element("fix").checked,
    };
    try {
      show(ask(bytes, question));
    } catch (error) {
      // The library ended; the next question gets a new one.
      show({ error: `This text made the page fail (${error.message}). Please report it together with the text.` });
      start();
    }
    element("link").hidden = file !== null || bytes.length === 0;
    if (focus) answer.focus({ preventScroll: false });
  };

  const take = async (chosen) => {
    if (!chosen) return;
    file = new Uint8Array(await chosen.arrayBuffer());
    const shown = 1 << 20;
    element("text").value = new TextDecoder().decode(file.subarray(0, shown));
    explain(true);
  };
  const text = element("text");
  text.addEventListener("input", () => { file = null; });
  text.addEventListener("paste", () => setTimeout(() => explain(true)));
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) explain(true);
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      text.classList.toggle("over", kind === "dragover");
      if (kind === "drop") take(event.dataTransfer.files[0]);
    });
  }
  element("file").addEventListener("change", (event) => take(event.target.files[0]));
  element("example").addEventListener("click", () => {
    file = null;
    text.value = element("sample").textContent;
    explain(true);
  });
  element("question").addEventListener("submit", (event) => {
    event.preventDefault();
    explain(true);
  });
  for (const id of ["processor", "verbose", "fix"]) {
    element(id).addEventListener("change", () => { if (text.value) explain(false); });
  }

  // The part of an address behind # stays in the browser.
  element("link").addEventListener("click", async () => {
    const question = new URLSearchParams({ text: text.value, processor: element("processor").value });
    const address = new URL(location.href);
    address.hash = question.toString();
    await navigator.clipboard.writeText(address.href);
    element("link").textContent = "Copied";
  });
  const open = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const section = target?.closest("details");
    if (section) {
      section.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", open);

  try {
    const bytes = Uint8Array.from(atob(element("module").textContent), (character) => character.charCodeAt(0));
    compiled = new WebAssembly.Module(bytes);
    start();
  } catch (error) {
    show({ error: `This browser cannot run the page (${error.message}): it needs WebAssembly.` });
    return;
  }
  element("explain").disabled = false;
  open();
  const asked = new URLSearchParams(location.hash.slice(1));
  if (asked.get("text")) {
    text.value = asked.get("text");
    element("processor").value = asked.get("processor") ?? "";
    explain(false);
  }
})();
