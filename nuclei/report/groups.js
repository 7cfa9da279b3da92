// --- Groups, such as treated and control --------------------------------------------------------------------------------

const MAX_GROUP_POINTS = 400; // nuclei of a group that are drawn as points; its box is made of all of them
const FEWEST_IN_BOX = 5; // images from which a box says more than its points
const OF_IMAGES = [ // numbers of whole images that can be compared
  { name: "nuclei_in_image", label: "nuclei in an image", of: (image) => image.found },
  { name: "nuclei_density", label: "nuclei per area", of: (image) => density(image) },
  { name: "nucleus_share", label: "nucleus share, %", of: (image) => (image.share === null ? null : 100 * image.share) },
  { name: "positive_nuclei", label: "positive nuclei (DAB), %", of: (image) => ("positive_share" in image ? 100 * image.positive_share : null) },
];

const hasMicrons = () => images.every((image) => image.mpp);
const density = (image) => image.found / (image.width * image.height * 1e-6 * (hasMicrons() ? image.mpp ** 2 : 1));
const comparedLabel = (name) => {
  if (name === "nuclei_density") return `nuclei per ${hasMicrons() ? "mm²" : "megapixel"}`;
  return OF_IMAGES.find((one) => one.name === name)?.label ?? words(name);
};
const groupName = (image) => image.group ?? "";
const groupColour = (group) => KINDS[data.groups.indexOf(group) % KINDS.length];

// Quantiles as NumPy has them: linear between the two nearest values. The values are in ascending order.
function quantile(ascending, share) {
  const place = share * (ascending.length - 1), below = Math.floor(place);
  return ascending[below] + (place - below) * ((ascending[below + 1] ?? ascending[below]) - ascending[below]);
}

// Tukey's box: the whiskers end at the last values within 1.5 interquartile ranges of the box.
function boxOf(values) {
  const ascending = Float64Array.from(values).sort();
  const [q1, median, q3] = [0.25, 0.5, 0.75].map((share) => quantile(ascending, share));
  const reach = 1.5 * (q3 - q1);
  return { n: ascending.length, q1, median, q3, low: ascending.find((value) => value >= q1 - reach), high: ascending.findLast((value) => value <= q3 + reach) };
}

function meanAndSd(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const sd = values.length < 2 ? null : Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1));
  return [mean, sd];
}

// What is compared, by group: its nuclei and one value for each image. Only listed images count; groups without any are left out.
function groupValues(name) {
  const ofImage = OF_IMAGES.find((one) => one.name === name)?.of, values = columns[name];
  return data.groups.map((group) => {
    const members = order.map((i) => images[i]).filter((image) => groupName(image) === group && image.part !== (ofImage ? "field" : "slide"));
    const nucleiOf = (image) => (ofImage ? [] : values.slice(image.first, image.first + image.nuclei));
    const perImage = members.map((image) => {
      const own = nucleiOf(image).filter((value) => value !== null);
      return { image, value: ofImage ? ofImage(image) : own.length ? boxOf(own).median : null };
    });
    const ats = members.flatMap((image) => nucleiOf(image).flatMap((value, rank) => (value === null ? [] : [image.first + rank])));
    return { group, members, ats, perImage: perImage.filter(({ value }) => value !== null), colour: groupColour(group) };
  }).filter(({ perImage }) => perImage.length);
}

// Places beside the middle, always the same ones: multiples of the golden ratio fill an interval evenly.
const beside = (rank, width) => (((rank * 0.618034) % 1) - 0.5) * width;

function boxTrace(place, box, colour) {
  return {
    type: "box", x0: place, q1: [box.q1], median: [box.median], q3: [box.q3], lowerfence: [box.low], upperfence: [box.high], width: 0.5,
    line: { color: colour, width: 2 }, fillcolor: "rgba(0,0,0,0)", hoverinfo: "skip", showlegend: false,
  };
}

function drawStrips(id, groups, tracesOf, label, title, act) {
  const { axis, layout } = look();
  const narrow = $(id).clientWidth < 90 * groups.length;
  plot(id, groups.flatMap(tracesOf), {
    ...layout, showlegend: false, dragmode: false, hovermode: "closest",
    xaxis: { ...axis, tickmode: "array", tickvals: groups.map((_, place) => place), ticktext: groups.map(label), range: [-0.6, groups.length - 0.4], fixedrange: true, tickangle: narrow ? -60 : 0 },
    yaxis: { ...axis, title: { text: title }, fixedrange: true },
  }, ["toImage"], { plotly_click: (event) => { const at = event.points[0].customdata; if (at?.image !== undefined) act(at); } });
}

async function drawGroups() {
  const name = $("compared").value, isOfImages = OF_IMAGES.some((one) => one.name === name);
  if (!isOfImages) await need([name]);
  if (!plotly || name !== $("compared").value) return;
  const groups = groupValues(name), title = comparedLabel(name), values = columns[name];
  const ungrouped = order.filter((i) => !data.groups.includes(images[i].group) && images[i].part !== "field").length;
  $("ungrouped").hidden = !ungrouped;
  $("ungrouped").textContent = `${plural(ungrouped, "listed image")} in no group, left out.`;
  $("no-groups").hidden = groups.length > 0;
  $("group-plots").hidden = $("group-table").hidden = $("save-groups").hidden = !groups.length;
  $("by-nucleus-part").hidden = isOfImages;
  $("by-image-title").textContent = isOfImages ? "Each point is an image" : "Each point is the median of an image";
  if (!groups.length) return;
  const open = (at) => show(at.image, true);
  if (!isOfImages) {
    const strides = groups.map(({ ats }) => Math.ceil(ats.length / MAX_GROUP_POINTS));
    $("by-nucleus-title").textContent = "Each point is a nucleus" + (Math.max(...strides) > 1 ? "; of large groups only some are drawn, the box is of all" : "");
    drawStrips("by-nucleus", groups, ({ ats, colour }, place) => {
      const drawn = ats.filter((_, rank) => rank % strides[place] === 0);
      return [{
        type: "scatter", mode: "markers", x: drawn.map((_, rank) => place + beside(rank, 0.44)), y: drawn.map((at) => values[at]),
        customdata: drawn.map((at) => ({ image: owner[at], stem: `${forPlotly(images[owner[at]].stem)}, nucleus ${at - images[owner[at]].first + 1}` })),
        marker: { color: colour, size: 4, opacity: 0.45 }, hovertemplate: "%{customdata.stem}<br>%{y}<extra></extra>",
      }, boxTrace(place, boxOf(ats.map((at) => values[at])), colour)];
    }, ({ group, ats }) => `${forPlotly(group)}<br>n = ${ats.length.toLocaleString("en")}`, title, open);
  }
  drawStrips("by-image", groups, ({ perImage, colour }, place) => {
    const box = boxOf(perImage.map(({ value }) => value));
    const middle = { type: "scatter", mode: "lines", x: [place - 0.25, place + 0.25], y: [box.median, box.median], line: { color: colour, width: 3 }, hoverinfo: "skip" };
    return [perImage.length < FEWEST_IN_BOX ? middle : boxTrace(place, box, colour), {
      type: "scatter", mode: "markers", x: perImage.map((_, rank) => place + (perImage.length > 1 ? beside(rank + 1, 0.36) : 0)), y: perImage.map(({ value }) => value),
      customdata: perImage.map(({ image }) => ({ image: image.number, stem: forPlotly(image.stem) })),
      marker: { color: colour, size: 9, line: { width: 1, color: look().colour("--sheet") } }, hovertemplate: "%{customdata.stem}<br>%{y}<extra></extra>",
    }];
  }, ({ group, perImage }) => `${forPlotly(group)}<br>n = ${perImage.length}`, title, open);
  fillGroupTable(groups, values, isOfImages);
}

function fillGroupTable(groups, values, isOfImages) {
  const heads = ["group", "images", ...(isOfImages ? [] : ["nuclei", "median of nuclei", "quartiles of nuclei"]), isOfImages ? "mean of images" : "mean of image medians", "SD", "lowest to highest image"];
  $("group-heads").replaceChildren(...heads.map((text) => element("th", { scope: "col", textContent: text })));
  $("group-rows").replaceChildren(...groups.map(({ group, ats, perImage }) => {
    const own = perImage.map(({ value }) => value), [mean, sd] = meanAndSd(own), box = isOfImages ? null : boxOf(ats.map((at) => values[at]));
    const cells = [
      perImage.length.toLocaleString("en"), ...(isOfImages ? [] : [ats.length.toLocaleString("en"), written(box.median), `${written(box.q1)} to ${written(box.q3)}`]),
      written(mean), written(sd), `${written(boxOf(own).n && Math.min(...own))} to ${written(Math.max(...own))}`,
    ];
    return element("tr", {}, element("th", { scope: "row", textContent: group }), ...cells.map((textContent) => element("td", { textContent })));
  }));
}

// One row for each image, for a program of statistics.
function saveGroups() {
  const name = $("compared").value, isOfImages = OF_IMAGES.some((one) => one.name === name);
  const rows = groupValues(name).flatMap(({ group, perImage }) => perImage.map(({ image, value }) => [image.stem, group, image.modality, image.found, value]));
  saveCsv([["image", "group", "modality", "nuclei", isOfImages ? name : `median_${name}`], ...rows], `groups_${name}.csv`);
}

const compareAgain = () => { if (data.groups.length) whenSeen("groups", drawGroups); };

function prepareGroups() {
  const has = data.groups.length > 0;
  for (const id of ["groups", "groups-link", "group-label"]) $(id).hidden = !has;
  $("colour-label").hidden = !has || !measures.length;
  if (!has) return;
  $("compared").append(...measures.map((name) => element("option", { value: name, textContent: words(name) })));
  const known = OF_IMAGES.filter(({ of }) => images.some((image) => of(image) !== null));
  $("compared").append(...known.map(({ name }) => element("option", { value: name, textContent: comparedLabel(name) })));
  $("compared").value = measures.includes($("across").value) ? $("across").value : OF_IMAGES[0].name;
  $("compared").addEventListener("change", compareAgain);
  $("save-groups").onclick = saveGroups;
  for (const group of data.groups) $("group").append(element("option", { value: group, textContent: group }));
  $("group").addEventListener("change", list);
  $("colour").value = "group";
  $("colour").addEventListener("change", drawPlots);
}
