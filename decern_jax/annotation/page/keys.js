// Keyboard commands, and when a key is text instead.

// Calls the action of each key that is a command.
export function listen(page, actions) {
  // Commands while the text field is empty.
  const whenEmpty = {
    " ": actions.skip,
    Backspace: actions.back,
    ArrowLeft: actions.back,
    ArrowRight: actions.next,
    "/": actions.startTyping,
  };
  const always = {
    Enter: actions.enter,
    Escape: actions.escape,
    ArrowDown: actions.down,
    ArrowUp: actions.up,
  };

  function commandOf(key) {
    if (key in always) return always[key];
    if (page.text || page.isTyping) return undefined;
    if (key in whenEmpty) return whenEmpty[key];
    if (key === "0" && page.query.is_multi_label) return actions.saveNone;
    if (/^[1-9]$/.test(key)) return () => actions.take(Number(key) - 1);
    return undefined;
  }

  document.addEventListener("keydown", (event) => {
    const { key } = event;
    if (!page.query || event.isComposing) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isOnButton = event.target instanceof HTMLButtonElement;
    if (isOnButton && (key === "Enter" || key === " ")) return;
    const command = commandOf(key);
    if (command) {
      event.preventDefault();
      // Holding a key must not answer image after image.
      if (!event.repeat || key.startsWith("Arrow")) command();
    } else if (key.length === 1) {
      actions.focusText();
    }
  });
}
