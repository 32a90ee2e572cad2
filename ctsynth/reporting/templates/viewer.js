"use strict";
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
async function unpackedHU(text) {
  const bytes = await unpacked(text), count = bytes.length / 2, hu = new Int16Array(count);
  for (let i = 0, value = 0; i < count; i++) {
    const folded = bytes[i] | bytes[count + i] << 8;
    value = (value + ((folded >>> 1) ^ -(folded & 1))) & 0xffff;
    hu[i] = value;
  }
  return hu;
}
async function view() {
  const find = (query, within = document) => within.querySelector(query);
  const content = (id) => document.getElementById(id).textContent;
  const {shape, spacing, level, width, names, colors} = JSON.parse(content("volume"));
  const volumes = {mask: await unpacked(content("mask")), synthetic: await unpackedHU(content("synthetic")),
    real: await unpackedHU(content("real"))};
  const [Z, H, W] = shape, at = [Z >> 1, H >> 1, W >> 1];
  const index = (z, y, x) => (z * H + y) * W + x;
  // Axes are z, y, x. Of each plane: the one it is cut across, the one down and the one to the right; z goes up.
  const planes = {coronal: [1, 0, 2], axial: [0, 1, 2], sagittal: [2, 0, 1]};
  const windowed = {level: find("#level"), width: find("#width")};
  const palette = new Uint32Array(256).fill(0xff000000);
  for (const [number, [r, g, b]] of Object.entries(colors)) palette[number] = 0xff000000 | b << 16 | g << 8 | r;

  function draw(canvas, kind, [, down, right]) {
    const rows = shape[down], columns = shape[right], place = [...at], voxels = volumes[kind];
    const image = new ImageData(columns, rows), pixels = new Uint32Array(image.data.buffer);
    const low = windowed.level.value - windowed.width.value / 2, scale = 255 / windowed.width.value;
    for (let row = 0, n = 0; row < rows; row++) {
      place[down] = down === 0 ? rows - 1 - row : row;
      for (let column = 0; column < columns; column++, n++) {
        place[right] = column;
        const value = voxels[index(...place)];
        if (kind === "mask") pixels[n] = palette[value];
        else {
          const gray = Math.max(0, Math.min(255, Math.round((value - low) * scale)));
          pixels[n] = 0xff000000 | gray << 16 | gray << 8 | gray;
        }
      }
    }
    canvas.width = columns;
    canvas.height = rows;
    canvas.style.aspectRatio = `${columns * spacing[right]} / ${rows * spacing[down]}`;
    canvas.getContext("2d").putImageData(image, 0, 0);
  }
  function show() {
    for (const [name, plane] of Object.entries(planes)) {
      const section = find(`[data-plane=${name}]`), [cut, down, right] = plane;
      find("input", section).value = at[cut];
      find("output", section).textContent = `${at[cut] + 1} of ${shape[cut]}`;
      const row = down === 0 ? shape[0] - 1 - at[0] : at[down];
      for (const figure of section.querySelectorAll("figure")) {
        draw(find("canvas", figure), figure.dataset.kind, plane);
        find(".across", figure).style.top = `${100 * (row + 0.5) / shape[down]}%`;
        find(".down", figure).style.left = `${100 * (at[right] + 0.5) / shape[right]}%`;
      }
    }
    for (const input of Object.values(windowed)) input.nextElementSibling.textContent = `${input.value} HU`;
    const n = index(...at);
    find("#here").textContent = `At the cross: synthetic ${volumes.synthetic[n]} HU, ` +
      `${find("[data-kind=real] figcaption").textContent} ${volumes.real[n]} HU, ` +
      (names[volumes.mask[n]] ?? "background");
  }
  let waits = false;
  function refresh() {
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => { waits = false; show(); });
  }
  function move(axis, place) {
    at[axis] = Math.max(0, Math.min(shape[axis] - 1, place));
    refresh();
  }
  function reset() {
    windowed.level.value = level;
    windowed.width.value = width;
    refresh();
  }
  for (const [name, [cut, down, right]] of Object.entries(planes)) {
    const section = find(`[data-plane=${name}]`), slider = find("input", section);
    slider.max = shape[cut] - 1;
    slider.addEventListener("input", () => move(cut, +slider.value));
    for (const box of section.querySelectorAll("figure div")) {
      const point = (event) => {
        const {left, top, width: wide, height: high} = box.getBoundingClientRect();
        const row = Math.floor((event.clientY - top) / high * shape[down]);
        move(right, Math.floor((event.clientX - left) / wide * shape[right]));
        move(down, down === 0 ? shape[0] - 1 - row : row);
      };
      box.addEventListener("pointerdown", (event) => { box.setPointerCapture(event.pointerId); point(event); });
      box.addEventListener("pointermove", (event) => { if (event.buttons) point(event); });
      box.addEventListener("wheel", (event) => {
        event.preventDefault();
        move(cut, at[cut] + Math.sign(event.deltaY) * (cut === 0 ? -1 : 1));
      }, {passive: false});
    }
  }
  Object.assign(windowed.level, {min: level - width / 2, max: level + width / 2});
  Object.assign(windowed.width, {min: 1, max: width});
  for (const input of Object.values(windowed)) input.addEventListener("input", refresh);
  find("form button").addEventListener("click", reset);
  find("#cross").addEventListener("change", (event) => document.body.classList.toggle("plain", !event.target.checked));
  reset();
}
if (typeof document !== "undefined") view();
