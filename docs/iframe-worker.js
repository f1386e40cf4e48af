/* To a page opened from a disk, browsers refuse the worker in which the theme searches: there, it runs in a hidden frame instead. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      this.frame = document.body.appendChild(Object.assign(document.createElement("iframe"), { hidden: true }));
      this.inside = this.frame.contentWindow;
      this.ready = new Promise((resolve, reject) => {
        this.inside.document.open();
        this.inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
        this.inside.document.close();
        const script = this.inside.document.createElement("script");
        this.inside.document.body.append(Object.assign(script, { src: address, onload: resolve, onerror: reject }));
      });
    }

    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
}
