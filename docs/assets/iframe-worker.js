// Browsers refuse to start a worker on a page that is opened from the disk. The search needs one: a hidden frame takes its part.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inside = this.frame.contentWindow, script = inside.document.createElement("script");
      inside.postMessage = (data) => setTimeout(() => this.onmessage?.({ data }));
      this.ready = new Promise((loaded, failed) => { script.onload = loaded; script.onerror = failed; });
      this.ready.catch((event) => this.onerror?.(event));
      script.src = new URL(url, location.href).href;
      inside.document.body.append(script);
    }

    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow?.onmessage?.({ data }), () => {});
    }

    terminate() {
      this.frame.remove();
    }
  };
}
